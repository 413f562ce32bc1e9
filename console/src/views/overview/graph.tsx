/** The pipeline as a picture: cards are buttons in HTML, edges are SVG beneath them. */
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import type { Graph, GraphEdge, GraphNode } from '../../api/types';
import { bytes, count, brief, rate, short } from '../../lib/format';
import { STATE_TONES, STATE_WORDS } from '../../ui/bits';
import { Icon } from '../../ui/icons';
import { layOutFor, NODE_HEIGHT, NODE_WIDTH, type Layout } from './layout';

const SMALLEST_SCALE = 0.8;
const LARGEST_SCALE = 1.15;

function facts(node: GraphNode, graph: Graph): [string, string][] {
  const lag = brief(node.watermark_lag_seconds);
  switch (node.kind) {
    case 'source':
      return [['reads', rate(node.rate)], ['to read', node.lag_records != null ? short(node.lag_records) : bytes(node.lag_bytes)], ['behind', lag], ['epoch', count(graph.epoch)]];
    case 'table':
      return [['takes', rate(node.rate)], ['state', bytes(node.state_bytes)], ['behind', lag], ['epoch', count(node.epoch)]];
    case 'sink':
      return [['writes', rate(node.rate)], ['behind', brief(node.lag_seconds)], ['commit', brief(node.commit_seconds)], ['epoch', node.live ? 'live' : count(node.epoch)]];
    default:
      return [];
  }
}

/** One of five speeds: an animation that changed with every number would start anew with every number. */
function speed(edge: GraphEdge): number {
  if (!edge.rate || edge.rate <= 0) return 0;
  return Math.min(5, 1 + Math.floor(Math.log10(Math.max(1, edge.rate))));
}

function Card({ node, graph, at, chosen, open }: { node: GraphNode; graph: Graph; at: { x: number; y: number }; chosen: boolean; open: () => void }) {
  const tone = STATE_TONES[node.state] ?? 'quiet';
  const what = node.kind === 'table' ? (node.zone ?? 'table') : node.kind;
  const figures = facts(node, graph);
  return (
    <button
      type="button"
      class={`node ${node.kind} tone-${tone} ${chosen ? 'chosen' : ''} ${node.holds_back ? 'holds-back' : ''}`}
      style={{ left: `${at.x}px`, top: `${at.y}px`, width: `${NODE_WIDTH}px`, height: `${NODE_HEIGHT}px` }}
      data-item
      data-node={node.id}
      aria-expanded={chosen}
      title={node.why ?? node.error ?? undefined}
      onClick={open}
    >
      <span class="node-head">
        <Icon name={node.kind} />
        <span class="node-name">{node.name}</span>
        <span class={`node-state ${tone}`} title={STATE_WORDS[node.state]}><Icon name={node.state in STATE_WORDS ? node.state : 'idle'} size={14} />{node.state === 'ok' && <span class="sr-only">running</span>}</span>
      </span>
      <span class="node-kind">
        <span class={`zone ${node.kind === 'table' ? (node.zone ?? '') : ''}`}>{what}</span>
        <span class="muted">{node.connector}{node.stored === false ? ', not kept' : ''}</span>
        {node.state !== 'ok' && <span class={`node-word ${tone}`}>{STATE_WORDS[node.state]}</span>}
      </span>
      <span class="node-facts">
        {figures.map(([label, value]) => (
          <span key={label}><small>{label}</small><b class="num">{value}</b></span>
        ))}
      </span>
      {node.holds_back && <span class="node-flag">holds the rest back</span>}
    </button>
  );
}

function Edges({ layout, edges }: { layout: Layout; edges: GraphEdge[] }) {
  const byKey = new Map(edges.map((edge) => [`${edge.from}\n${edge.to}`, edge]));
  return (
    <svg class="edges" width={layout.width} height={layout.height} aria-hidden="true">
      {layout.edges.map(({ from, to, path }) => {
        const edge = byKey.get(`${from}\n${to}`);
        if (!edge) return null;
        const fast = speed(edge);
        return (
          <g key={path} class={`edge ${edge.kind}`}>
            <path d={path} class="bed" style={{ strokeWidth: `${1.5 + fast * 0.7}px` }} />
            {fast > 0 && <path d={path} class={`flow speed-${fast}`} />}
          </g>
        );
      })}
    </svg>
  );
}

function useWidth(): [{ current: HTMLDivElement | null }, number] {
  const box = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const element = box.current;
    if (!element) return undefined;
    const observer = new ResizeObserver(() => setWidth(element.clientWidth));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  return [box, width];
}

/** To the nearest card in the direction of the arrow. */
function walk(event: KeyboardEvent, layout: Layout): void {
  const vectors: Record<string, [number, number]> = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
  const vector = vectors[event.key];
  const here = layout.nodes.get((event.target as HTMLElement).dataset.node ?? '');
  if (!vector || !here) return;
  let best: { id: string; cost: number } | null = null;
  for (const [id, at] of layout.nodes) {
    const [dx, dy] = [at.x - here.x, at.y - here.y];
    const along = dx * vector[0] + dy * vector[1];
    const across = Math.abs(dx * vector[1]) + Math.abs(dy * vector[0]);
    if (along > 1 && (!best || along + 2 * across < best.cost)) best = { id, cost: along + 2 * across };
  }
  if (!best) return;
  event.preventDefault();
  (event.currentTarget as HTMLElement).querySelector<HTMLElement>(`[data-node="${CSS.escape(best.id)}"]`)?.focus();
}

export function GraphPicture({ graph, chosen, choose }: { graph: Graph; chosen: string | null; choose: (id: string) => void }) {
  const [box, width] = useWidth();
  // Steps of forty pixels, so that dragging a window's border does not lay out at every pixel.
  const shape = JSON.stringify([Math.floor(width / 40), graph.nodes.map((n) => n.id), graph.edges.map((e) => [e.from, e.to])]);
  const layout = useMemo(() => layOutFor(width, graph.nodes, graph.edges, SMALLEST_SCALE), [shape]);
  const scale = width > 0 ? Math.min(LARGEST_SCALE, Math.max(SMALLEST_SCALE, width / layout.width)) : 1;
  const wide = layout.width * scale;
  return (
    <div ref={box} class="graph-box" role="group" aria-label="The pipeline: sources, tables, sinks. Arrow keys walk, Enter opens." onKeyDown={(event) => walk(event, layout)}>
      <div style={{ width: `${Math.max(wide, 0)}px`, height: `${layout.height * scale}px`, margin: '0 auto' }}>
        <div class="graph" style={{ width: `${layout.width}px`, height: `${layout.height}px`, transform: `scale(${scale})` }}>
          <Edges layout={layout} edges={graph.edges} />
          {graph.nodes.map((node) => {
            const at = layout.nodes.get(node.id);
            return at && <Card key={node.id} node={node} graph={graph} at={at} chosen={chosen === node.id} open={() => choose(node.id)} />;
          })}
        </div>
      </div>
    </div>
  );
}
