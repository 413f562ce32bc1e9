/** Where nodes and edges go: dagre decides, only when the shape of the graph changes, never when numbers do. */
import dagre from '@dagrejs/dagre';
import type { GraphEdge, GraphNode } from '../../api/types';

export const NODE_WIDTH = 208;
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

export function layOut(nodes: GraphNode[], edges: GraphEdge[], direction: Direction): Layout {
  const g = new dagre.graphlib.Graph();
  g.setGraph({ rankdir: direction, nodesep: 22, ranksep: direction === 'LR' ? 72 : 44, marginx: 10, marginy: 14 });
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
