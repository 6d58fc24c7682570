"""GraphML and GEXF as other tools write them, brought to the form that NetworkX reads."""

from __future__ import annotations

import gzip
import io
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphfm.errors import FEW
from graphfm.graphs.readers.textfiles import is_number

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

log = logging.getLogger(__name__)

NUMBERS = ("int", "integer", "long", "short", "float", "double", "bigdecimal", "biginteger")
BOOLEANS = ("true", "false", "0", "1")
TEXT = ("string", "anyuri", "liststring")
TIMES = ("start", "end", "startopen", "endopen", "start_date", "end_date")
LABEL = "graphfm_label"  # key of the labels of a drawing


def read_xml(path: Path, suffix: str, directed: bool | None) -> Any:
    """Read a GraphML or GEXF file as a NetworkX graph.

    A key that is not declared is text. An empty number is missing, and a key of numbers that holds
    text becomes text. The first graph of several is read. Drawing attributes and times are left
    out. Where edges of both kinds are mixed, all are undirected unless ``directed`` is true.

    Args:
        path: Path of the file, also packed by gzip.
        suffix: ``.graphml`` or ``.gexf``.
        directed: If True, undirected edges of a mixed graph become two directed ones.
    """
    from xml.etree import ElementTree

    import networkx as nx

    with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
        root = ElementTree.parse(file).getroot()
    space = root.tag[: root.tag.index("}") + 1] if root.tag.startswith("{") else ""
    graphs = root.findall(f"{space}graph")
    if len(graphs) > 1:
        log.warning("%s: it holds %d graphs; the first one is read", path.name, len(graphs))
        for graph in graphs[1:]:
            root.remove(graph)
    if graphs:
        mend = _mend_graphml if suffix == ".graphml" else _mend_gexf
        mend(root, graphs[0], space, path)
        _mend_directions(graphs[0], space, suffix, directed, path)
    packed = io.BytesIO(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))
    found = nx.read_graphml(packed) if suffix == ".graphml" else nx.read_gexf(packed)
    _fill_defaults(found, path)
    return found


def _mend_graphml(root: Element, graph: Element, space: str, path: Path) -> None:
    """Declare every key, and give it a type that all its values have."""
    drawn = {k.get("id") for k in root.iter(f"{space}key") if k.get("yfiles.type")}
    labelled = False
    for owner in graph.iter():
        for data in owner.findall(f"{space}data"):
            if not len(data) and data.get("key") not in drawn:
                continue
            label = next((e.text for e in data.iter() if e.tag.endswith("}NodeLabel")), None)
            owner.remove(data)
            drawn.add(data.get("key"))
            if label and label.strip() and owner.tag == f"{space}node":
                added = owner.makeelement(f"{space}data", {"key": LABEL})
                added.text, labelled = label.strip(), True
                owner.append(added)
    for key in [k for k in root.iter(f"{space}key") if k.get("yfiles.type")]:
        root.remove(key)
    if drawn:
        log.warning("%s: drawing attributes are left out%s", path.name,
                    "; the label of a node is read as 'label'" if labelled else "")  # fmt: skip
    values: dict[str, list[tuple[Element, Element]]] = {}
    for owner in graph.iter():
        for data in owner.findall(f"{space}data"):
            values.setdefault(str(data.get("key")), []).append((owner, data))
    keys = {str(key.get("id")): key for key in root.findall(f"{space}key")}
    unknown = [id for id in values if id not in keys]
    for id in unknown:
        name = "label" if id == LABEL else id
        keys[id] = root.makeelement(
            f"{space}key", {"id": id, "for": "all", "attr.name": name, "attr.type": "string"}
        )
        root.insert(0, keys[id])
    unknown = [id for id in unknown if id != LABEL]
    if unknown:
        log.warning("%s: %d keys are not declared and are read as text: %s", path.name,
                    len(unknown), ", ".join(unknown[:FEW]))  # fmt: skip
    for id, key in keys.items():
        key.set("attr.name", key.get("attr.name") or id)
        items = values.get(id, [])
        kind = _fitting_type(key.get("attr.type") or "string", [d.text for _, d in items])
        key.set("attr.type", kind)
        default = key.find(f"{space}default")
        if default is not None and kind != "string" and not (default.text or "").strip():
            key.remove(default)
        if kind != "string":
            for owner, data in items:
                if not (data.text or "").strip():
                    owner.remove(data)


def _mend_gexf(root: Element, graph: Element, space: str, path: Path) -> None:
    """Declare every attribute with a type that its values have, and leave dates of nodes out."""
    _keep_label_attribute(graph, space, path)
    if graph.get("timeformat", "").lower() in ("date", "datetime"):
        timed = 0
        for element in graph.iter():
            for name in [name for name in TIMES if name in element.attrib]:
                del element.attrib[name]
                timed += 1
            for spells in element.findall(f"{space}spells"):
                element.remove(spells)
                timed += 1
        graph.set("timeformat", "string")
        if timed:
            log.warning("%s: the times of nodes and edges are not read", path.name)
    for group in graph.findall(f"{space}attributes"):
        kind = group.get("class")
        if kind not in ("node", "edge"):
            graph.remove(group)
            continue
        values: dict[str, list[tuple[Element, Element]]] = {}
        for owner in graph.iter(f"{space}{kind}"):
            for cells in owner.findall(f"{space}attvalues"):
                for cell in cells.findall(f"{space}attvalue"):
                    values.setdefault(str(cell.get("for")), []).append((cells, cell))
        declared = {str(a.get("id")): a for a in group.findall(f"{space}attribute")}
        for id in values:
            if id not in declared and len(graph.findall(f"{space}attributes")) < 3:
                others = [
                    a for g in graph.findall(f"{space}attributes") if g is not group
                    and g.get("class") == kind for a in g.findall(f"{space}attribute")
                ]  # fmt: skip
                if id not in {str(a.get("id")) for a in others}:
                    declared[id] = group.makeelement(
                        f"{space}attribute", {"id": id, "title": id, "type": "string"}
                    )
                    group.append(declared[id])
        for id, attribute in declared.items():
            items = values.get(id, [])
            found = _fitting_type(
                attribute.get("type") or "string", [cell.get("value") for _, cell in items]
            )
            attribute.set("type", found)
            for cells, cell in items:
                if found != "string" and not (cell.get("value") or "").strip():
                    cells.remove(cell)


def _keep_label_attribute(graph: Element, space: str, path: Path) -> None:
    """Put an attribute called ``label`` in the place of the name that a node has for people.

    NetworkX reads that name as the attribute ``label``.
    """
    declared = {
        str(attribute.get("id")): attribute
        for group in graph.findall(f"{space}attributes")
        if group.get("class") == "node"
        for attribute in group.findall(f"{space}attribute")
        if attribute.get("title") == "label"
    }
    if not declared:
        return
    default = next(iter(declared.values())).findtext(f"{space}default")
    named = 0
    for node in graph.iter(f"{space}node"):
        named += node.attrib.pop("label", None) is not None
        cells = (c for group in node.findall(f"{space}attvalues") for c in group)
        value = next((c.get("value") for c in cells if c.get("for") in declared), default)
        if value is not None:
            node.set("label", value)
    if named:
        log.warning("%s: the names of nodes for people are not read, because an attribute is "
                    "called 'label' too", path.name)  # fmt: skip


def _fitting_type(kind: str, values: list[str | None]) -> str:
    """Return the type that all values but the empty ones have: ``kind``, double or string."""
    known = [value.strip() for value in values if value and value.strip()]
    if kind.lower() in NUMBERS:
        if not all(is_number(value) or value.lower() in ("nan", "inf", "-inf") for value in known):
            return "string"
        whole = kind.lower() in ("int", "integer", "long", "short") and all(
            value.lstrip("+-").isdecimal() for value in known
        )
        return "long" if whole else "double"
    if kind.lower() == "boolean" and all(value.lower() in BOOLEANS for value in known):
        return "boolean"
    return "string"


def _mend_directions(
    graph: Element, space: str, suffix: str, directed: bool | None, path: Path
) -> None:
    """Give all edges one direction where directed and undirected ones are mixed."""
    name = "directed" if suffix == ".graphml" else "type"
    yes = ("true", "directed")
    asked = graph.get("edgedefault") or graph.get("defaultedgetype") or "undirected"
    edges = [(owner, e) for owner in graph.iter() for e in owner.findall(f"{space}edge")]
    kinds = {(e.get(name) or asked).lower() in yes for _, e in edges if e.get(name) != "mutual"}
    if kinds == {True, False}:
        if not directed:
            log.warning("%s: directed and undirected edges are mixed; all are read as undirected, "
                        "unless --directed is given", path.name)  # fmt: skip
        for owner, edge in edges:
            one_way = (edge.get(name) or asked).lower() in yes
            if directed and not one_way:
                ends = {"source": edge.get("target", ""), "target": edge.get("source", "")}
                owner.append(edge.makeelement(edge.tag, ends))
    if kinds and (len(kinds) == 2 or kinds != {asked.lower() == "directed"}):
        one_kind = "directed" if (directed and len(kinds) == 2) or kinds == {True} else "undirected"
        graph.set("edgedefault" if suffix == ".graphml" else "defaultedgetype", one_kind)
        for _, edge in edges:
            edge.attrib.pop(name, None)


def _fill_defaults(found: Any, path: Path) -> None:
    """Give nodes without an attribute the default that its key declares."""
    for key, value in found.graph.get("node_default", {}).items():
        filled = 0
        for _, record in found.nodes(data=True):
            if key not in record:
                record[key] = value
                filled += 1
        if filled:
            log.warning("%s: %s nodes get the default of %r: %r", path.name, f"{filled:,}", key,
                        value)  # fmt: skip
