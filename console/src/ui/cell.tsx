import type { Cell, Kind } from '../api/types';

/** A value of a row, told apart from NULL and from empty text. */
export function CellText({ value, kind }: { value: Cell | undefined; kind?: Kind | undefined }) {
  if (value === null || value === undefined) return <i class="null">null</i>;
  if (value === '') return <i class="null">empty</i>;
  if (typeof value === 'object') return <span class="mono">{JSON.stringify(value)}</span>;
  if (typeof value === 'boolean') return <>{value ? 'true' : 'false'}</>;
  if (kind === 'time') return <time title={`${String(value)} (UTC)`}>{String(value).replace('T', ' ').replace(/(\.\d*?)0+Z?$|Z$/, '$1').replace(/\.$/, '')}</time>;
  if (kind === 'bytes') return <span class="mono">{String(value)}</span>;
  return <>{String(value)}</>;
}

export const alignOf = (kind: Kind | undefined): string => (kind === 'number' ? 'num right' : kind === 'time' ? 'num' : '');
