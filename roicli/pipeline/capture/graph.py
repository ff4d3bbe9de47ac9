"""A user's model, cut down to what leads to some of its tensors, which become its outputs.

The file stays as it is: what is run is bytes in memory. What stands in an If or a Loop is led out
through new outputs of these: an If gives an empty tensor where it goes the other way, a Loop
gathers a sequence, a tensor an iteration.
"""

from __future__ import annotations

import logging
import math
import os
import stat
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from roicli.core.exceptions import InputError
from roicli.core.foreign import foreign
from roicli.pipeline.model_nodes import (
    LARGEST_MODEL,
    NOT_IMPLEMENTED_FROM,
    ONNX_DOMAIN,
    Step,
    is_standard,
    load_graph,
    opset_versions,
)

logger = logging.getLogger("roicli")

# What ONNX Runtime itself has; a function of the model is replaced by its nodes before.
DOMAINS = ("", ONNX_DOMAIN, "ai.onnx.ml", "com.microsoft")
# The first opset in which a Loop carries sequences.
SEQUENCES_FROM = 13
FLOAT, INT64 = 1, 7


class NotLedOutError(Exception):
    """Why a tensor cannot be led out of where it stands."""


class ModelInput(NamedTuple):
    """What a model takes: ``dtype`` None is no array of numbers; a side None may be anything."""

    name: str
    dtype: np.dtype[Any] | None
    shape: tuple[int | str | None, ...] | None

    def __str__(self) -> str:
        kind = "no tensor of numbers" if self.dtype is None else self.dtype.name
        if self.shape is None:
            return f"{foreign(self.name)} {kind}"
        sides = ", ".join("?" if side is None else str(foreign(str(side))) for side in self.shape)
        return f"{foreign(self.name)} {kind} ({sides})"


class CutModel(NamedTuple):
    """A model to run: its bytes, inputs and outputs, and the folder of its external weights."""

    path: str
    model: bytes
    inputs: tuple[ModelInput, ...]
    outputs: tuple[str, ...]
    folder: str


def open_model(path: str) -> Any:
    """The model with its functions replaced by their nodes. Raises InputError."""
    model = load_graph(path)
    if model.functions:
        import onnx.inliner

        try:
            model = onnx.inliner.inline_local_functions(model)
        except Exception as error:
            raise InputError(f"{path}: the model's functions cannot be put in place") from error
    return model


def list_inputs(graph: Any) -> list[ModelInput]:
    """What a graph takes that no initializer gives."""
    given = {one.name for one in graph.initializer}
    return [_read_input(one) for one in graph.input if one.name not in given]


def _read_input(value: Any) -> ModelInput:
    import onnx

    if not value.type.HasField("tensor_type"):
        return ModelInput(value.name, None, None)
    kind = value.type.tensor_type
    try:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
    except (KeyError, TypeError, ValueError):
        dtype = None
    if dtype is not None and dtype.kind not in "biuf":
        dtype = None
    shape = tuple(map(_read_side, kind.shape.dim)) if kind.HasField("shape") else None
    return ModelInput(value.name, dtype, shape)


def _read_side(dimension: Any) -> int | str | None:
    if dimension.HasField("dim_value"):
        return int(dimension.dim_value)
    return str(dimension.dim_param) or None


class ModelEditor:
    """Leads tensors of a model out, then cuts it. The model is changed and of no other use."""

    def __init__(self, model: Any, path: str, allow_external: bool = False) -> None:
        self.model, self._path, self._allow_external = model, path, allow_external
        self._opset = opset_versions(model).get("", 1)
        self._led: dict[tuple[str, int], str] = {}
        self._outputs: list[str] = []
        self._count = 0
        self._elements: dict[str, int] | None = None
        # What external weights say of their place, and the file that it is.
        self._external: list[tuple[Any, str]] = []

    def lead_out(self, tensor: str, path: tuple[Step, ...] = (), element: int = 0) -> str:
        """The name of the output that ``tensor`` comes out as; ``path`` is where it is read.

        ``element`` is ONNX's number of its dtype, 0 where that is to be found out. Raises
        NotLedOutError.
        """
        depth = self._depth_of(tensor, path)
        # One tensor of one graph is led out once, whoever reads it.
        key = (tensor, 0 if depth == 0 else id(path[depth - 1].graph))
        if key not in self._led:
            for step in path[:depth]:
                if step.node.op_type not in ("If", "Loop"):
                    raise NotLedOutError(f"it is in a {foreign(step.node.op_type)}")
            self._led[key] = self._lead(tensor, path[:depth], element)
            self._outputs.append(self._led[key])
        return self._led[key]

    def _depth_of(self, tensor: str, path: tuple[Step, ...]) -> int:
        """How deep the graph is that has the tensor, from the innermost out; 0 is the main one."""
        for depth in range(len(path), 0, -1):
            graph = path[depth - 1].graph
            own = (*graph.input, *graph.initializer)
            if any(one.name == tensor for one in own):
                return depth
            if any(tensor in node.output for node in graph.node):
                return depth
        return 0

    def _lead(self, tensor: str, path: tuple[Step, ...], element: int) -> str:
        if not path:
            graph = self.model.graph
            # ONNX Runtime gives back what a node made, and nothing else.
            if any(tensor in node.output for node in graph.node):
                return tensor
            if not any(one.name == tensor for one in (*graph.input, *graph.initializer)):
                raise NotLedOutError(f"there is no tensor {foreign(tensor)}")
            return self._add_node(graph, "Identity", [tensor])
        loops = [step for step in path if step.node.op_type == "Loop"]
        if len(loops) > 1:
            raise NotLedOutError("it is in a Loop in a Loop")
        if loops and self._opset < SEQUENCES_FROM:
            raise NotLedOutError(f"a Loop of opset {self._opset} gathers no sequences")
        kind, name = element or self._element_of(tensor), tensor
        is_sequence = False
        for depth in range(len(path), 0, -1):
            step = path[depth - 1]
            outer = self.model.graph if depth == 1 else path[depth - 2].graph
            if step.node.op_type == "If":
                name = self._lead_out_of_if(step, name, kind, is_sequence)
            else:
                name, is_sequence = self._lead_out_of_loop(step, outer, name, kind), True
        return name

    def _lead_out_of_if(self, step: Step, name: str, element: int, is_sequence: bool) -> str:
        for attribute in step.node.attribute:
            if not attribute.HasField("g"):
                continue
            branch = attribute.g
            if attribute.name == step.attribute:
                made = self._add_node(branch, "Identity", [name])
            elif is_sequence:
                made = self._add_node(branch, "SequenceEmpty", [], dtype=element)
            else:
                made = self._add_node(branch, "Constant", [], value=_empty_tensor(element))
            branch.output.append(_value(made, element, is_sequence))
        step.node.output.append(self._new_name())
        return str(step.node.output[-1])

    def _lead_out_of_loop(self, step: Step, outer: Any, name: str, element: int) -> str:
        """A sequence that the loop carries, and every iteration adds to."""
        node, body = step.node, step.graph
        first = self._add_node(outer, "SequenceEmpty", [], at_start=True, dtype=element)
        while len(node.input) < 2:
            node.input.append("")
        carried = len(node.input) - 2
        held, grown = self._new_name(), ""
        body.input.append(_value(held, element, True))
        grown = self._add_node(body, "SequenceInsert", [held, name])
        node.input.append(first)
        while len(node.output) < carried:
            node.output.append(self._new_name())
        result = self._new_name()
        node.output.insert(carried, result)
        body.output.insert(1 + carried, _value(grown, element, True))
        return result

    def _add_node(
        self, graph: Any, op_type: str, inputs: Sequence[str], at_start: bool = False, **given: Any
    ) -> str:
        import onnx

        name = self._new_name()
        node = onnx.helper.make_node(op_type, inputs, [name], **given)
        graph.node.insert(0 if at_start else len(graph.node), node)
        return name

    def _new_name(self) -> str:
        self._count += 1
        return f"roicli.capture.{self._count}"

    def _element_of(self, tensor: str) -> int:
        """The dtype of a tensor in a subgraph, as ONNX infers it; float32 where it does not."""
        if self._elements is None:
            self._elements = infer_elements(self.model)
        return self._elements.get(tensor, FLOAT)

    def cut(self) -> CutModel:
        """The model that leads to what was led out. Raises InputError for what is not run."""
        import onnx

        graph = self.model.graph
        needed = _names_needed(graph, self._outputs)
        _keep(graph.node, lambda node: any(name in needed for name in node.output))
        _keep(graph.initializer, lambda one: one.name in needed)
        _keep(graph.sparse_initializer, lambda one: one.values.name in needed)
        _keep(graph.input, lambda one: one.name in needed)
        for field in ("output", "value_info", "quantization_annotation"):
            graph.ClearField(field)
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in self._outputs)
        self._check_domains()
        for tensor in _tensors(graph):
            self._check_tensor(tensor)
        self._lower_opset()
        folder = self._follow_links()
        try:
            data = self.model.SerializeToString()
        except Exception as error:
            raise InputError(f"{self._path}: cannot be written as ONNX") from error
        if len(data) > LARGEST_MODEL:
            raise InputError(f"{self._path}: takes {len(data):,} bytes, at most {LARGEST_MODEL:,}")
        inputs = tuple(list_inputs(graph))
        return CutModel(self._path, data, inputs, tuple(self._outputs), folder)

    def _check_domains(self) -> None:
        for node in _nodes(self.model.graph):
            if node.domain not in DOMAINS:
                raise InputError(
                    f"{self._path}: {foreign(node.domain)}::{foreign(node.op_type)} is an operator "
                    "of a custom domain, and no library of custom operators is loaded",
                    "name tensors before it with --outputs; --list shows the RoI nodes",
                )

    def _check_tensor(self, tensor: Any) -> None:
        """Raise InputError for weights outside the model's folder, or of another size than said."""
        import onnx

        name = foreign(tensor.name)
        try:
            dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
        except (KeyError, TypeError, ValueError):
            if tensor.data_type == onnx.TensorProto.STRING:
                return
            raise InputError(f"{self._path}: tensor {name} is of no known type") from None
        count = math.prod(tensor.dims)
        if any(side < 0 for side in tensor.dims):
            raise InputError(f"{self._path}: tensor {name} has shape {tuple(tensor.dims)}")
        bits = {"int4": 4, "uint4": 4, "float4_e2m1fn": 4, "int2": 2, "uint2": 2}
        needed = -(-count * bits.get(dtype.name, dtype.itemsize * 8) // 8)
        held = len(tensor.raw_data) if tensor.HasField("raw_data") else None
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            held = self._external_bytes(tensor, needed)
        if held is not None and held != needed:
            raise InputError(
                f"{self._path}: tensor {name} of shape {tuple(tensor.dims)} and dtype {dtype} "
                f"takes {needed:,} bytes, and the file has {held:,} for it"
            )

    def _external_bytes(self, tensor: Any, needed: int) -> int:
        """How many bytes a tensor has in its file. Raises InputError where it may not be read."""
        name = foreign(tensor.name)
        said = {entry.key: entry.value for entry in tensor.external_data}
        location = said.get("location", "")
        folder = os.path.realpath(os.path.dirname(os.path.abspath(self._path)))
        whole = os.path.join(folder, location)
        real = os.path.realpath(whole)
        if os.path.isabs(location) or ".." in location.replace("\\", "/").split("/"):
            inside = False
        else:
            inside = real.startswith(os.path.join(folder, "")) or self._allow_external
        if not inside:
            raise InputError(
                f"{self._path}: tensor {name} is kept in {foreign(location)}, outside the model's "
                "folder",
                "put the file beside the model; --allow-external follows a link out of the folder",
            )
        try:
            status = os.stat(real)
            offset, length = int(said.get("offset", 0)), int(said.get("length", needed))
        except (OSError, ValueError) as error:
            raise InputError(
                f"{self._path}: tensor {name} is kept in {foreign(location)}, which cannot be "
                f"read: {getattr(error, 'strerror', None) or 'its place is no number'}"
            ) from None
        if not stat.S_ISREG(status.st_mode) or offset < 0 or offset + length > status.st_size:
            raise InputError(
                f"{self._path}: tensor {name} is kept at bytes {offset:,} to {offset + length:,} "
                f"of {foreign(location)}, which has {status.st_size:,}"
            )
        self._external += [(entry, real) for entry in tensor.external_data
                           if entry.key == "location"]  # fmt: skip
        return length

    def _follow_links(self) -> str:
        """The folder that all external weights are in once links are followed, which ONNX Runtime
        does not do out of a folder.
        """
        folder = os.path.dirname(os.path.abspath(self._path))
        if self._allow_external and self._external:
            folder = os.path.commonpath([os.path.dirname(real) for _, real in self._external])
            for entry, real in self._external:
                entry.value = os.path.relpath(real, folder)
        return folder

    def _lower_opset(self) -> None:
        """Where ONNX Runtime has no RoI kernel of this opset, run the last one that it has.

        Later versions of the operators may take more dtypes; what else differs is refused.
        """
        last = NOT_IMPLEMENTED_FROM - 1
        nodes = [one for one in _nodes(self.model.graph) if one.domain in ("", ONNX_DOMAIN)]
        if self._opset <= last or not any(map(is_standard, nodes)):
            return
        for node in nodes:
            if not _is_the_same(node.op_type, self._opset, last):
                raise InputError(
                    f"{self._path}: is of opset {self._opset}, where ONNX Runtime has no RoI "
                    f"kernel, and {foreign(node.op_type)} is not in opset {last} as it is there",
                    f"export the model with opset {last} or less",
                )
        for entry in self.model.opset_import:
            if entry.domain in ("", ONNX_DOMAIN):
                entry.version = last
        logger.info(
            f"{self._path}: is of opset {self._opset}, where ONNX Runtime has no RoI kernel; run "
            f"as opset {last}, which computes the same"
        )


def _is_the_same(op_type: str, opset: int, older: int) -> bool:
    """Whether two opsets have an operator with the same inputs, outputs and attributes."""
    import onnx

    try:
        one, other = (onnx.defs.get_schema(op_type, version) for version in (opset, older))
    except onnx.defs.SchemaError:
        return False
    if one.since_version == other.since_version:
        return True

    def describe(schema: Any) -> Any:
        attributes = {
            name: (str(said.type), said.required, said.default_value.SerializeToString())
            for name, said in schema.attributes.items()
        }
        return attributes, *([one.name for one in side] for side in (schema.inputs, schema.outputs))

    return bool(describe(one) == describe(other))


def has_external(graph: Any) -> bool:
    """Whether a graph has weights in other files."""
    import onnx

    return any(one.data_location == onnx.TensorProto.EXTERNAL for one in _tensors(graph))


def infer_elements(model: Any) -> dict[str, int]:
    """The dtype (ONNX's number) of every tensor whose type is inferred."""
    return {name: kind.elem_type for name, kind in infer_types(model).items()}


def infer_types(model: Any) -> dict[str, Any]:
    """The dtype and shape (``TypeProto.Tensor``) of every tensor that ONNX infers one of, without
    the weights.
    """
    import onnx

    skeleton = onnx.ModelProto(ir_version=model.ir_version)
    skeleton.opset_import.extend(model.opset_import)
    graph = skeleton.graph
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    known = {one.name for one in graph.input}
    for one in model.graph.initializer:
        if one.name not in known:
            value = onnx.helper.make_tensor_value_info(one.name, one.data_type, list(one.dims))
            graph.input.append(value)
    try:
        graph = onnx.shape_inference.infer_shapes(skeleton).graph
    except Exception as error:
        logger.debug(f"dtypes are not inferred: {error}")
        return {}
    return {
        value.name: value.type.tensor_type
        for one in _graphs(graph)
        for value in (*one.value_info, *one.input, *one.output)
        if value.type.HasField("tensor_type") and value.type.tensor_type.elem_type
    }


def _empty_tensor(element: int) -> Any:
    import onnx

    return onnx.helper.make_tensor("", element, [0], [])


def _value(name: str, element: int, is_sequence: bool) -> Any:
    import onnx

    if is_sequence:
        return onnx.helper.make_tensor_sequence_value_info(name, element, None)
    return onnx.helper.make_tensor_value_info(name, element, None)


def _names_needed(graph: Any, outputs: Sequence[str]) -> set[str]:
    """The tensors that some outputs depend on, themselves among them."""
    producers = {name: node for node in graph.node for name in node.output if name}
    needed: set[str] = set()
    left = list(outputs)
    while left:
        name = left.pop()
        if name not in needed:
            needed.add(name)
            if name in producers:
                left += _names_read(producers[name])
    return needed


def _names_read(node: Any) -> Iterator[str]:
    """What a node reads, and what its subgraphs read."""
    yield from filter(None, node.input)
    for graph in _subgraphs(node):
        for inner in graph.node:
            yield from _names_read(inner)
        yield from (one.name for one in graph.output)


def _keep(items: Any, is_kept: Any) -> None:
    """Remove in place what is not kept: weights are not copied."""
    for index in range(len(items) - 1, -1, -1):
        if not is_kept(items[index]):
            del items[index]


def _subgraphs(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _graphs(graph: Any) -> Iterator[Any]:
    yield graph
    for node in graph.node:
        for inner in _subgraphs(node):
            yield from _graphs(inner)


def _nodes(graph: Any) -> Iterator[Any]:
    for one in _graphs(graph):
        yield from one.node


def _tensors(graph: Any) -> Iterator[Any]:
    """Every tensor that a graph keeps, in nodes and subgraphs too."""
    for one in _graphs(graph):
        yield from one.initializer
        for sparse in one.sparse_initializer:
            yield from (sparse.values, sparse.indices)
        for node in one.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors
