/**
 * Which latencies are meant to stay below what. The project's own objectives count where it has some; otherwise those
 * that this browser was told. There is no built-in objective: nobody here knows what was promised to whom.
 */
import { signal } from '@preact/signals';
import { recall, remember } from '../../lib/storage';
import { graph } from '../../state/pipeline';

const mine = signal<Record<string, number>>(recall('objectives', {}));

export interface Objective {
  seconds: number;
  from: 'project' | 'browser';
}

export function objectiveOf(series: string): Objective | null {
  const set = graph.value?.objectives?.find((objective) => objective.series === series);
  if (set) return { seconds: set.seconds, from: 'project' };
  const seconds = mine.value[series];
  return seconds === undefined ? null : { seconds, from: 'browser' };
}

export function setObjective(series: string, seconds: number | null): void {
  const next = { ...mine.value };
  if (seconds === null) delete next[series];
  else next[series] = seconds;
  mine.value = next;
  remember('objectives', next);
}
