/** The graph as it is now: taken whole at first, then kept true by what changed. */
import { computed, signal } from '@preact/signals';
import { resubscribe, subscribe } from '../api/live';
import type { Graph, GraphEdge, GraphNode } from '../api/types';

export const graph = signal<Graph | null>(null);

let lastSeq = -1;

interface GraphMessage {
  seq: number;
  full: boolean;
  data: Partial<Graph>;
}

const edgeKey = (edge: GraphEdge): string => `${edge.from}\n${edge.to}`;

function merged<T>(old: T[], changed: T[], key: (item: T) => string): T[] {
  const news = new Map(changed.map((item) => [key(item), item]));
  return old.map((item) => news.get(key(item)) ?? item);
}

function merge(old: Graph, change: Partial<Graph>): Graph {
  return {
    ...old,
    ...change,
    nodes: change.nodes ? merged<GraphNode>(old.nodes, change.nodes, (node) => node.id) : old.nodes,
    edges: change.edges ? merged<GraphEdge>(old.edges, change.edges, edgeKey) : old.edges,
  };
}

function receive(message: GraphMessage): void {
  if (message.full) {
    graph.value = message.data as Graph;
  } else if (graph.value && message.seq === lastSeq + 1) {
    graph.value = merge(graph.value, message.data);
  } else {
    resubscribe('graph');
    return;
  }
  lastSeq = message.seq;
}

export function watchGraph(): () => void {
  return subscribe('graph', (message) => receive(message as unknown as GraphMessage));
}

export const nodesById = computed(() => new Map((graph.value?.nodes ?? []).map((node) => [node.id, node])));

export const quarantined = computed(() =>
  Object.values(graph.value?.quarantine ?? {}).reduce((sum, rows) => sum + rows, 0),
);
