"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const names = data.columns.map((column) => column.name);
  const column = (name) => data.values[names.indexOf(name)];
  const rois = column("roi");
  const placeOf = new Map(rois.map((roi, place) => [roi, place]));

  // Words and numbers -------------------------------------------------------------------------
  const element = (name, text, kind) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (kind) made.className = kind;
    return made;
  };
  const shown = (value, kind) => {
    if (value === null) return "-";
    if (kind !== "number") return String(value);
    const size = Math.abs(value);
    return size === 0 || (size >= 0.001 && size < 100000) ? value.toFixed(3) : value.toPrecision(3);
  };

  // Light and dark ----------------------------------------------------------------------------
  const root = document.documentElement;
  const setTheme = (dark) => {
    root.dataset.theme = dark ? "dark" : "light";
    at("theme").textContent = dark ? "Light" : "Dark";
  };
  const wantsDark = matchMedia("(prefers-color-scheme: dark)");
  setTheme(wantsDark.matches);
  wantsDark.addEventListener("change", (event) => setTheme(event.matches));
  at("theme").addEventListener("click", () => setTheme(root.dataset.theme !== "dark"));

  // A drawing, from lines that the program computed -------------------------------------------
  const svg = (name, attributes, parent) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (parent) parent.append(made);
    return made;
  };
  const bytes = data.maps.map((map) => Uint8Array.from(atob(map.greys), (mark) => mark.charCodeAt(0)));
  const shade = (drawing) => {
    const map = data.maps[drawing.map];
    if (!map) return null;
    const [x1, y1, x2, y2] = drawing.window.map((edge) => edge - drawing.offset);
    const left = Math.max(Math.floor(x1), 0), right = Math.min(Math.ceil(x2), map.width);
    const top = Math.max(Math.floor(y1), 0), bottom = Math.min(Math.ceil(y2), map.height);
    if (right <= left || bottom <= top) return null;
    const canvas = element("canvas");
    canvas.width = right - left;
    canvas.height = bottom - top;
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(canvas.width, canvas.height);
    for (let y = top; y < bottom; y++) for (let x = left; x < right; x++) {
      // Black at an opacity, so that the dark theme can turn it white.
      pixels.data[4 * ((y - top) * canvas.width + x - left) + 3] = 0.5 * bytes[drawing.map][y * map.width + x];
    }
    context.putImageData(pixels, 0, 0);
    return { href: canvas.toDataURL(), left, top, right, bottom };
  };
  const ticks = (low, high, most) => {
    const raw = (high - low) / most, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
    const found = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9; k++) found.push(+(k * step).toPrecision(6));
    return found;
  };
  let drawn = 0;
  const draw = (place, wide) => {
    const drawing = data.drawings[place];
    if (!drawing) return element("p", "This page had no room for the drawing: roicli draw --roi " + rois[place], "quiet");
    const id = `d${drawn++}`;
    const [x1, y1, x2, y2] = drawing.window;
    const edge = { left: 34, right: 40, top: 30, bottom: 32 };
    const room = wide - edge.left - edge.right;
    const scale = Math.min(room / (x2 - x1), (0.95 * wide) / (y2 - y1));
    const tall = (y2 - y1) * scale, across = (x2 - x1) * scale;
    const start = edge.left + (room - across) / 2;
    const X = (x) => start + (x - x1) * scale, Y = (y) => edge.top + (y - y1) * scale;
    const picture = svg("svg", { class: "drawing", viewBox: `0 0 ${wide} ${tall + edge.top + edge.bottom}`, role: "img", "aria-label": `RoI ${rois[place]}` });
    const defs = svg("defs", {}, picture);
    const clip = svg("clipPath", { id: `${id}w` }, defs);
    svg("rect", { x: start, y: edge.top, width: across, height: tall }, clip);
    svg("rect", { class: "sheet", x: start, y: edge.top, width: across, height: tall }, picture);
    const inside = svg("g", { "clip-path": `url(#${id}w)` }, picture);
    const heat = shade(drawing), o = drawing.offset;
    if (heat) svg("image", { href: heat.href, x: X(heat.left + o), y: Y(heat.top + o), width: (heat.right - heat.left) * scale, height: (heat.bottom - heat.top) * scale, preserveAspectRatio: "none" }, inside);
    const rectangle = ([a, b, c, d], attributes, parent) =>
      svg("rect", { x: X(Math.min(a, c)), y: Y(Math.min(b, d)), width: Math.abs(c - a) * scale, height: Math.abs(d - b) * scale, ...attributes }, parent);
    const areas = [["gained", drawing.rounded, drawing.real, "g", "M-2 10L10 -2M4 16L16 4"], ["lost", drawing.real, drawing.rounded, "l", "M-2 2L10 14M4 -4L16 8"]];
    for (const [kind, whole, without, letter, stripes] of areas) {
      const mask = svg("mask", { id: id + letter }, defs);
      rectangle(whole, { fill: "white" }, mask);
      rectangle(without, { fill: "black" }, mask);
      const pattern = svg("pattern", { id: `${id}h${letter}`, width: 12, height: 12, patternUnits: "userSpaceOnUse" }, defs);
      svg("path", { d: stripes, class: `hatch ${letter}`, fill: "none" }, pattern);
      const group = svg("g", { mask: `url(#${id}${letter})` }, inside);
      rectangle(whole, { class: kind }, group);
      rectangle(whole, { fill: `url(#${id}h${letter})` }, group);
    }
    const grid = (xs, ys, kind) => {
      if (Math.max(xs.length, ys.length) > 40) return;
      const [left, right, top, bottom] = [xs[0], xs[xs.length - 1], ys[0], ys[ys.length - 1]];
      const path = xs.map((x) => `M${X(x)} ${Y(top)}V${Y(bottom)}`).join("") + ys.map((y) => `M${X(left)} ${Y(y)}H${X(right)}`).join("");
      svg("path", { d: path, class: `bins ${kind}` }, inside);
    };
    grid(drawing.px, drawing.py, "rounded");
    grid(drawing.ax, drawing.ay, "real");
    const sides = [drawing.sx, drawing.sy].map((s) => (s.length > 1 ? Math.abs(s[1] - s[0]) * scale : 20));
    const radius = Math.max(Math.min(...sides.map((side) => side * 0.22), 2.6), 0.5);
    if (drawing.sx.length * drawing.sy.length <= 2500)
      for (const y of drawing.sy) for (const x of drawing.sx) svg("circle", { class: "point", cx: X(x), cy: Y(y), r: radius }, inside);
    rectangle(drawing.rounded, { class: "box rounded" }, inside);
    rectangle(drawing.real, { class: "box real" }, inside);
    const label = (x, y, text, anchor) => { svg("text", { x, y, "text-anchor": anchor }, picture).textContent = text; };
    const low = edge.top + tall;
    for (const x of ticks(x1, x2, across / 55)) { svg("line", { class: "tick", x1: X(x), x2: X(x), y1: low, y2: low + 4 }, picture); label(X(x), low + 15, x, "middle"); }
    for (const y of ticks(y1, y2, tall / 40)) { svg("line", { class: "tick", x1: start - 4, x2: start, y1: Y(y), y2: Y(y) }, picture); label(start - 6, Y(y) + 4, y, "end"); }
    const s = drawing.stride;
    for (const x of ticks(x1 * s, x2 * s, across / 70)) { svg("line", { class: "tick", x1: X(x / s), x2: X(x / s), y1: edge.top - 4, y2: edge.top }, picture); label(X(x / s), edge.top - 7, x, "middle"); }
    for (const y of ticks(y1 * s, y2 * s, tall / 45)) { svg("line", { class: "tick", x1: start + across, x2: start + across + 4, y1: Y(y / s), y2: Y(y / s) }, picture); label(start + across + 6, Y(y / s) + 4, y, "start"); }
    label(start + across / 2, low + 28, "cells", "middle");
    label(start + across / 2, 10, "px of the image", "middle");
    return picture;
  };

  // One RoI closely ---------------------------------------------------------------------------
  const dialog = at("detail");
  let current = -1;
  const open = (place) => {
    current = place;
    at("detail-title").textContent = `RoI ${rois[place]}`;
    at("detail-drawing").replaceChildren(draw(place, 700));
    const corner = data.corners[place], facts = [["x1, y1, px", corner.slice(0, 2).join(", ")], ["x2, y2, px", corner.slice(2).join(", ")]];
    data.columns.forEach((c, i) => { if (c.name !== "roi") facts.push([c.name + (c.unit === "-" || c.unit === "1" ? "" : `, ${c.unit.replace("2", "\u00b2")}`), shown(data.values[i][place], c.kind), c.meaning]); });
    at("detail-facts").replaceChildren(...facts.flatMap(([name, value, meaning]) => {
      const term = element("dt", name);
      if (meaning) term.title = meaning;
      return [term, element("dd", value)];
    }));
    if (!dialog.open) dialog.showModal();
    history.replaceState(null, "", `#roi=${rois[place]}`);
  };
  const step = (by) => {
    const index = order.indexOf(current) + by;
    if (index >= 0 && index < order.length) open(order[index]);
  };
  at("previous").addEventListener("click", () => step(-1));
  at("next").addEventListener("click", () => step(1));
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => history.replaceState(null, "", location.pathname + location.search));
  document.querySelectorAll("[data-roi]").forEach((dot) => dot.addEventListener("click", () => open(placeOf.get(+dot.dataset.roi))));
  const openFromAddress = () => {
    const place = placeOf.get(+(/^#roi=(\d+)$/.exec(location.hash) || [])[1]);
    if (place !== undefined) open(place);
  };
  addEventListener("hashchange", openFromAddress);

  // The worst ---------------------------------------------------------------------------------
  for (const roi of data.worst) {
    const place = placeOf.get(roi), figure = element("figure");
    const caption = `RoI ${roi}: IoU ${shown(column("iou")[place], "number")}, an edge up to ${column("edge_error_max_px")[place].toFixed(1)} px off`;
    figure.tabIndex = 0;
    figure.append(draw(place, 380), element("figcaption", caption));
    figure.addEventListener("click", () => open(place));
    figure.addEventListener("keydown", (event) => { if (event.key === "Enter") open(place); });
    at("worst").append(figure);
  }

  // The table: only the rows in view are in the document ----------------------------------------
  const ROW = 28, SPARE = 12, PRINTED = 60;
  const box = at("table"), head = box.querySelector("thead tr"), body = box.querySelector("tbody");
  const smallIsBad = new Set(["iou", "value_cosine", "roi", "batch_index", "level"]);
  let order = rois.map((_, place) => place), sortedBy = data.sort, down = !smallIsBad.has(data.sort);
  data.columns.forEach((c) => {
    const heading = element("th"), button = element("button", c.name.replaceAll("_", "_\u200b"));
    button.type = "button";
    button.title = c.meaning + (c.unit === "-" || c.unit === "1" ? "" : ` (${c.unit})`);
    button.addEventListener("click", () => {
      down = sortedBy === c.name ? !down : !smallIsBad.has(c.name) && c.kind !== "text";
      sortedBy = c.name;
      refresh();
    });
    heading.style.width = "96px";
    heading.append(button);
    head.append(heading);
  });
  box.querySelector("table").style.width = `${96 * names.length}px`;
  const gap = (rows) => {
    const line = element("tr", undefined, "gap"), cell = element("td");
    cell.colSpan = names.length;
    cell.style.height = `${rows * ROW}px`;
    line.append(cell);
    return line;
  };
  const rowOf = (place) => {
    const line = element("tr", undefined, "row");
    line.tabIndex = 0;
    line.dataset.place = place;
    line.append(...data.columns.map((c, i) => element("td", shown(data.values[i][place], c.kind))));
    return line;
  };
  let first = -1, last = -1, printing = false;
  const render = (force) => {
    const seen = Math.floor(box.scrollTop / ROW);
    const start = printing ? 0 : Math.max(seen - SPARE, 0);
    const end = Math.min(printing ? PRINTED : seen + Math.ceil(box.clientHeight / ROW) + SPARE, order.length);
    if (!force && start === first && end === last) return;
    [first, last] = [start, end];
    const lines = order.slice(start, end).map(rowOf);
    body.replaceChildren(...(printing ? lines : [gap(start), ...lines, gap(order.length - end)]));
  };
  box.addEventListener("scroll", () => render(false), { passive: true });
  addEventListener("resize", () => render(true));
  body.addEventListener("click", (event) => {
    const line = event.target.closest("tr.row");
    if (line) open(+line.dataset.place);
  });
  body.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.dataset.place) open(+event.target.dataset.place);
  });
  let themeBefore = "light";
  addEventListener("beforeprint", () => {
    themeBefore = root.dataset.theme;
    setTheme(false);
    printing = true;
    render(true);
  });
  addEventListener("afterprint", () => {
    setTheme(themeBefore === "dark");
    printing = false;
    render(true);
  });

  // Filters -----------------------------------------------------------------------------------
  const fill = (id, name) => {
    const values = column(name);
    const found = values ? [...new Set(values)].filter((value) => value !== null) : [];
    found.sort((a, b) => (typeof a === "number" ? a - b : a < b ? 1 : -1));
    at(id).append(...found.map((value) => { const option = element("option", value); option.value = value; return option; }));
    if (found.length < 2) at(id).parentElement.hidden = true;
    at(id).addEventListener("change", refresh);
  };
  const tests = {
    "<": (a, b) => a < b, ">": (a, b) => a > b, "<=": (a, b) => a <= b,
    ">=": (a, b) => a >= b, "=": (a, b) => a === b, "!=": (a, b) => a !== b,
  };
  const parse = (text) => text.trim().split(/\s+/).filter(Boolean).map((word) => {
    const [, name, sign, value] = /^(\w+?)(<=|>=|!=|<|>|=)(\S+)$/.exec(word) || [];
    const index = names.indexOf(name);
    if (index < 0) throw new Error(`not a filter: ${word}`);
    const wanted = data.columns[index].kind === "text" ? value : Number(value);
    if (Number.isNaN(wanted)) throw new Error(`not a number: ${value}`);
    return (place) => data.values[index][place] !== null && tests[sign](data.values[index][place], wanted);
  });
  const refresh = () => {
    let conditions = [];
    const count = at("count");
    count.classList.remove("wrong");
    try {
      conditions = parse(at("query").value);
    } catch (problem) {
      count.textContent = problem.message;
      count.classList.add("wrong");
      return;
    }
    for (const [id, name] of [["size", "size_class"], ["level", "level"], ["image", "batch_index"]]) {
      const wanted = at(id).value;
      if (wanted !== "") conditions.push((place) => String(column(name)[place]) === wanted);
    }
    const values = column(sortedBy), sign = down ? -1 : 1;
    order = rois.map((_, place) => place).filter((place) => conditions.every((holds) => holds(place)));
    // What is not defined comes last, whichever way.
    order.sort((a, b) => {
      const [x, y] = [values[a], values[b]];
      if (x === null || y === null) return (x === null) - (y === null);
      return (x < y ? -1 : x > y ? 1 : 0) * sign || rois[a] - rois[b];
    });
    names.forEach((name, i) => {
      if (name === sortedBy) head.children[i].setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.children[i].removeAttribute("aria-sort");
    });
    count.textContent = `${order.length.toLocaleString("en")} of ${rois.length.toLocaleString("en")} RoIs`;
    box.scrollTop = 0;
    render(true);
  };
  fill("size", "size_class");
  fill("level", "level");
  fill("image", "batch_index");
  at("query").addEventListener("input", refresh);
  refresh();
  openFromAddress();
})();
