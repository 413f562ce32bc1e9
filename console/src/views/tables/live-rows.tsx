import { useEffect, useState } from 'preact/hooks';
import { subscribe } from '../../api/live';
import type { Cell } from '../../api/types';
import { count, rate } from '../../lib/format';
import { graph } from '../../state/pipeline';
import { Empty } from '../../ui/bits';
import { CellText } from '../../ui/cell';

const KEPT = 100;

interface Batch {
  rows: Record<string, Cell>[];
  total: number;
  skipped: number;
}

/** Rows of a table as ticks make them, the newest on top. */
export function LiveRows({ table }: { table: string }) {
  const [rows, setRows] = useState<{ id: number; row: Record<string, Cell> }[]>([]);
  const [seen, setSeen] = useState({ total: 0, skipped: 0 });
  const [paused, setPaused] = useState(false);

  useEffect(() => {
    if (paused) return undefined;
    let id = 0;
    return subscribe(`rows:${table}`, (message) => {
      const batch = message as unknown as Batch;
      // The server sends the oldest of a batch first.
      const fresh = batch.rows.map((row) => ({ id: performance.now() + id++ / 1e3, row })).reverse();
      setRows((old) => [...fresh, ...old].slice(0, KEPT));
      setSeen((old) => ({ total: old.total + batch.total, skipped: old.skipped + batch.skipped }));
    });
  }, [table, paused]);

  const columns = Object.keys(rows[0]?.row ?? {});
  const node = graph.value?.nodes.find((n) => n.kind === 'table' && n.name === table);
  return (
    <section aria-label="Live rows">
      <p class="row between wrap">
        <span class="num">{count(seen.total)} rows since you look{seen.skipped > 0 && <span class="muted">, {count(seen.skipped)} of them not shown</span>} · {rate(node?.rate)}</span>
        <button type="button" class="small" aria-pressed={paused} onClick={() => setPaused(!paused)}>{paused ? 'Go on' : 'Pause'}</button>
      </p>
      {rows.length === 0
        ? <Empty title="Waiting for rows"><p>Rows show here the moment a tick makes them, before they are committed. A window's rows come when its window closes.</p></Empty>
        : (
          <div class="card scroll-xy">
            <table class="grid result">
              <thead><tr>{columns.map((name) => <th key={name}>{name}</th>)}</tr></thead>
              <tbody>
                {rows.map(({ id, row }) => (
                  <tr key={id}>{columns.map((name) => <td key={name} class={`clip ${typeof row[name] === 'number' ? 'num right' : ''}`}><CellText value={row[name]} /></td>)}</tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
    </section>
  );
}
