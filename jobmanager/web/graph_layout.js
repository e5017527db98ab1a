// Where the boxes and edges of a job graph go: layers from the sources on (longest path), few crossings (barycentres), boxes
// near what they are connected with. Pure: no element is touched here.

export const BOX_WIDTH = 236, BOX_HEIGHT = 160;
const GAP_ALONG = 76, GAP_ACROSS = 26;
const LANE = 30; // what an edge takes where it passes a layer

function layerOf(nodes) {
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const layers = new Map();
  const visit = (node, depth) => {
    if (layers.has(node.id))
      return layers.get(node.id);
    if (depth > nodes.length) // no graph that runs has a cycle; one that is shown must not hang the page
      return 0;
    const above = (node.inputs ?? []).map((input) => byId.get(input.id)).filter(Boolean).map((input) => visit(input, depth + 1) + 1);
    layers.set(node.id, Math.max(0, ...above));
    return layers.get(node.id);
  };
  nodes.forEach((node) => visit(node, 0));
  return layers;
}

/** Cells of each layer: boxes, and lanes where an edge passes. */
function cellsOf(nodes) {
  const layers = layerOf(nodes);
  const rows = Array.from({ length: Math.max(0, ...layers.values()) + 1 }, () => []);
  const cells = new Map();
  // Plans name sinks first.
  for (const node of [...nodes].reverse()) {
    const cell = { node, layer: layers.get(node.id), size: 1, before: [], after: [] };
    cells.set(node.id, cell);
    rows[cell.layer].push(cell);
  }
  const edges = [];
  for (const node of nodes) {
    for (const input of node.inputs ?? []) {
      const from = cells.get(input.id), to = cells.get(node.id);
      if (!from)
        continue;
      const path = [from];
      for (let layer = from.layer + 1; layer < to.layer; layer++) {
        const lane = { node: null, layer, before: [], after: [] };
        rows[layer].push(lane);
        path.push(lane);
      }
      path.push(to);
      for (let i = 1; i < path.length; i++) {
        path[i - 1].after.push(path[i]);
        path[i].before.push(path[i - 1]);
      }
      edges.push({ from: input.id, to: node.id, strategy: input.ship_strategy ?? "", path });
    }
  }
  return { rows, edges };
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

function order(rows) {
  const index = () => rows.forEach((row) => row.forEach((cell, i) => { cell.order = i; }));
  index();
  for (let sweep = 0; sweep < 6; sweep++) {
    const down = sweep % 2 === 0;
    for (const row of down ? rows : [...rows].reverse()) {
      const wish = new Map(row.map((cell) => {
        const neighbours = down ? cell.before : cell.after;
        return [cell, neighbours.length > 0 ? mean(neighbours.map((other) => other.order)) : cell.order];
      }));
      row.sort((a, b) => wish.get(a) - wish.get(b));
      row.forEach((cell, i) => { cell.order = i; });
    }
  }
}

/** Positions across the flow: each cell as near to its neighbours as those beside it allow. */
function place(rows, boxSize) {
  const size = (cell) => cell.node ? boxSize : LANE;
  const gap = (a, b) => (size(a) + size(b)) / 2 + GAP_ACROSS;
  for (const row of rows) {
    let at = 0;
    row.forEach((cell, i) => { cell.across = at = i > 0 ? at + gap(row[i - 1], cell) : 0; });
    row.forEach((cell) => { cell.across -= at / 2; });
  }
  for (let round = 0; round < 10; round++) {
    for (const row of round % 2 === 0 ? rows : [...rows].reverse()) {
      const wish = row.map((cell) => {
        const neighbours = [...cell.before, ...cell.after];
        return neighbours.length > 0 ? mean(neighbours.map((other) => other.across)) : cell.across;
      });
      // From both ends, then the mean of the two: neither end is favoured.
      const low = [...wish], high = [...wish];
      for (let i = 1; i < row.length; i++)
        low[i] = Math.max(low[i], low[i - 1] + gap(row[i - 1], row[i]));
      for (let i = row.length - 2; i >= 0; i--)
        high[i] = Math.min(high[i], high[i + 1] - gap(row[i], row[i + 1]));
      row.forEach((cell, i) => { cell.across = (low[i] + high[i]) / 2; });
    }
  }
}

/** nodes: of a plan ({id, inputs: [{id, ship_strategy}]}). isDown: top to bottom, for narrow screens.
 * Returns {width, height, boxes: [{id, x, y}], edges: [{from, to, strategy, points: [[x, y], …]}]}; the points of an edge are
 * pairs of (leave, enter) per layer crossed. */
export function layout(nodes, isDown) {
  if (nodes.length === 0)
    return { width: 0, height: 0, boxes: [], edges: [] };
  const along = isDown ? BOX_HEIGHT : BOX_WIDTH, across = isDown ? BOX_WIDTH : BOX_HEIGHT;
  const { rows, edges } = cellsOf(nodes);
  order(rows);
  place(rows, across);
  const cells = rows.flat();
  const first = Math.min(...cells.map((cell) => cell.across - (cell.node ? across : LANE) / 2));
  const last = Math.max(...cells.map((cell) => cell.across + (cell.node ? across : LANE) / 2));
  const step = along + (isDown ? 58 : GAP_ALONG);
  const point = (a, b) => isDown ? [b, a] : [a, b];
  const start = (cell) => cell.layer * step;
  const middle = (cell) => cell.across - first;
  const boxes = cells.filter((cell) => cell.node).map((cell) => {
    const [x, y] = point(start(cell), middle(cell) - across / 2);
    return { id: cell.node.id, x, y };
  });
  const drawn = edges.map(({ from, to, strategy, path }) => {
    const points = [];
    for (let i = 1; i < path.length; i++)
      points.push(point(start(path[i - 1]) + along, middle(path[i - 1])), point(start(path[i]), middle(path[i])));
    return { from, to, strategy, points };
  });
  const [width, height] = point((rows.length - 1) * step + along, last - first);
  return { width, height, boxes, edges: drawn };
}
