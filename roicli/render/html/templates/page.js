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

  const explain = (column) => `${column.name}: ${column.meaning}`;

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

  // One RoI closely ---------------------------------------------------------------------------
  const drawings = at("drawings").textContent.split("\n");
  const dialog = at("detail");
  let current = -1;
  const open = (place) => {
    current = place;
    at("detail-title").textContent = `RoI ${rois[place]}`;
    if (place < drawings.length) at("detail-drawing").innerHTML = drawings[place];
    else at("detail-drawing").replaceChildren(element("p", `This page has drawings of the ${drawings.length} worst only: roicli draw --roi ${rois[place]}`, "quiet"));
    const corner = data.corners[place], facts = [["x1, y1, px", corner.slice(0, 2).join(", ")], ["x2, y2, px", corner.slice(2).join(", ")]];
    data.columns.forEach((c, i) => { if (c.name !== "roi") facts.push([c.header.join(", "), shown(data.values[i][place], c.kind), explain(c)]); });
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
  document.querySelectorAll("[data-roi]").forEach((mark) => {
    const openIt = () => open(placeOf.get(+mark.dataset.roi));
    mark.addEventListener("click", openIt);
    mark.addEventListener("keydown", (event) => { if (event.key === "Enter") openIt(); });
  });
  const openFromAddress = () => {
    const place = placeOf.get(+(/^#roi=(\d+)$/.exec(location.hash) || [])[1]);
    if (place !== undefined) open(place);
  };
  addEventListener("hashchange", openFromAddress);

  // The table: only the rows in view are in the document ----------------------------------------
  const ROW = 28, SPARE = 12, PRINTED = 60;
  const box = at("table"), head = box.querySelector("thead tr"), body = box.querySelector("tbody");
  const smallIsBad = new Set(["iou", "value_cosine", "roi", "batch_index", "level"]);
  let order = rois.map((_, place) => place), sortedBy = data.sort, down = !smallIsBad.has(data.sort);
  data.columns.forEach((c) => {
    const heading = element("th"), button = element("button", c.header.join("\n").replaceAll("_", "_\u200b"));
    button.type = "button";
    button.title = explain(c);
    heading.dataset.column = c.name;
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
