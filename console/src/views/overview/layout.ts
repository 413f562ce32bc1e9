/** Where nodes and edges go: dagre decides, only when the shape of the graph changes, never when numbers do. */
import dagre from '@dagrejs/dagre';
import type { GraphEdge, GraphNode } from '../../api/types';

export const NODE_WIDTH = 236;
export const NODE_HEIGHT = 104;

export interface Placed {
  x: number;
  y: number;
}

export interface Layout {
  width: number;
  height: number;
  nodes: Map<string, Placed>;
  edges: { from: string; to: string; path: string }[];
}

export type Direction = 'LR' | 'TB';

/** Beside a column of cards: where its edges run. */
const GUTTER = 34;

export function layOut(nodes: GraphNode[], edges: GraphEdge[], direction: Direction): Layout {
  const g = new dagre.graphlib.Graph();
  g.setGraph({ rankdir: direction, nodesep: 22, ranksep: direction === 'LR' ? 64 : 46, marginx: 10, marginy: 14 });
  g.setDefaultEdgeLabel(() => ({}));
  for (const node of nodes) g.setNode(node.id, { width: NODE_WIDTH, height: NODE_HEIGHT });
  for (const edge of edges) if (g.hasNode(edge.from) && g.hasNode(edge.to)) g.setEdge(edge.from, edge.to);
  dagre.layout(g);
  const size = g.graph();
  const placed = new Map(
    nodes.map((node) => {
      const at = g.node(node.id) as Placed;
      return [node.id, { x: at.x - NODE_WIDTH / 2, y: at.y - NODE_HEIGHT / 2 }] as const;
    }),
  );
  return {
    width: size.width ?? 0,
    height: size.height ?? 0,
    nodes: placed,
    edges: edges
      .filter((edge) => placed.has(edge.from) && placed.has(edge.to))
      .map((edge) => ({ from: edge.from, to: edge.to, path: curve(placed, edge, direction) })),
  };
}

function curve(placed: Map<string, Placed>, edge: GraphEdge, direction: Direction): string {
  const from = placed.get(edge.from)!;
  const to = placed.get(edge.to)!;
  if (direction === 'LR') {
    const [x1, y1] = [from.x + NODE_WIDTH, from.y + NODE_HEIGHT / 2];
    const [x2, y2] = [to.x, to.y + NODE_HEIGHT / 2];
    const bend = Math.max(28, (x2 - x1) / 2);
    return `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`;
  }
  const [x1, y1] = [from.x + NODE_WIDTH / 2, from.y + NODE_HEIGHT];
  const [x2, y2] = [to.x + NODE_WIDTH / 2, to.y];
  const bend = Math.max(20, (y2 - y1) / 2);
  return `M${x1} ${y1}C${x1} ${y1 + bend} ${x2} ${y2 - bend} ${x2} ${y2}`;
}

/** One card below the other, for narrow screens: in the order of the flow, edges as arcs at the side. */
export function stack(nodes: GraphNode[], edges: GraphEdge[]): Layout {
  const flow = layOut(nodes, edges, 'TB');
  const order = [...flow.nodes].sort((a, b) => a[1].y - b[1].y || a[1].x - b[1].x).map(([id]) => id);
  const placed = new Map(order.map((id, i) => [id, { x: GUTTER, y: 14 + i * (NODE_HEIGHT + 22) }] as const));
  const arc = (edge: { from: string; to: string }): string => {
    const y1 = placed.get(edge.from)!.y + NODE_HEIGHT / 2;
    const y2 = placed.get(edge.to)!.y + NODE_HEIGHT / 2;
    const depth = GUTTER - Math.min(GUTTER + 6, 14 + Math.abs(y2 - y1) / 14);
    return `M${GUTTER} ${y1}C${depth} ${y1} ${depth} ${y2} ${GUTTER} ${y2}`;
  };
  return {
    width: GUTTER + NODE_WIDTH + 10,
    height: 14 + order.length * (NODE_HEIGHT + 22),
    nodes: placed,
    edges: flow.edges.map((edge) => ({ ...edge, path: arc(edge) })),
  };
}

/** The layout that keeps cards readable in this width: with the reading direction if it fits, else down, else a column. */
export function layOutFor(width: number, nodes: GraphNode[], edges: GraphEdge[], readable: number): Layout {
  const across = layOut(nodes, edges, 'LR');
  if (width === 0 || width / across.width >= readable) return across;
  const down = layOut(nodes, edges, 'TB');
  if (width / down.width >= readable) return down;
  return width < 560 ? stack(nodes, edges) : down.width < across.width ? down : across;
}
