/** What is wrong, worst first, each with what it is about. An empty list means: nothing known is wrong. */
import type { Alert, Graph } from '../../api/types';
import { count, duration, percent } from '../../lib/format';
import { href } from '../../router';

export interface Problem {
  tone: 'bad' | 'warn';
  text: string;
  /** A node to open, or a page to go to. */
  node?: string;
  link?: string;
}

export function problemsOf(graph: Graph, firing: Alert[], nowMillis: number): Problem[] {
  const problems: Problem[] = [];
  if (graph.error) problems.push({ tone: 'bad', text: `The pipeline stopped: ${graph.error}` });
  for (const alert of firing) {
    if ((alert.silenced_until ?? 0) / 1000 > nowMillis) continue;
    problems.push({ tone: alert.severity === 'critical' ? 'bad' : 'warn', text: `Alert: ${alert.name}${alert.text ? `. ${alert.text}` : ''}`, link: href('alerts') });
  }
  for (const node of graph.nodes) {
    if (node.state === 'failed') problems.push({ tone: 'bad', text: `${node.name} failed${node.error ? `: ${node.error}` : ''}`, node: node.id });
  }
  const held = graph.held_back_by;
  if (held) problems.push({ tone: 'warn', text: `Held back: ${held.detail}`, node: held.node });
  for (const node of graph.nodes) {
    if (node.id === held?.node) continue;
    if (node.state === 'retrying') problems.push({ tone: 'warn', text: `${node.name} is waited for${node.error ? `: ${node.error}` : ''}`, node: node.id });
    else if (node.state === 'behind' || node.falling_behind) {
      problems.push({ tone: 'warn', text: `${node.name} is behind${node.lag_records ? ` by ${count(node.lag_records)} records` : ''}`, node: node.id });
    }
  }
  const overdue = commitOverdue(graph, nowMillis);
  if (overdue !== null) problems.push({ tone: 'bad', text: `No commit for ${duration(overdue)} while records arrive`, link: href('performance') });
  if (graph.state_bytes && graph.memory_limit && graph.state_bytes > 0.8 * graph.memory_limit) {
    problems.push({ tone: 'warn', text: `State takes ${percent(graph.state_bytes / graph.memory_limit)} of the memory it may have`, link: href('performance') });
  }
  for (const notice of graph.notices) problems.push({ tone: 'warn', text: notice });
  return problems;
}

/** Seconds since the last commit if that is thrice the interval and records come; null if all is as it should be. */
function commitOverdue(graph: Graph, nowMillis: number): number | null {
  if (!graph.committed_at || !graph.rate || graph.rate <= 0) return null;
  const since = nowMillis / 1000 - graph.committed_at / 1e6;
  return since > 3 * graph.epoch_interval_seconds + 5 ? since : null;
}
