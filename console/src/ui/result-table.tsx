import type { Cell, ResultColumn } from '../api/types';
import { alignOf, CellText } from './cell';
import { walkWithArrows } from './list';

/** Rows as the API answers them. The first column counts, from `offset` on. */
export function ResultTable({ columns, rows, offset = 0 }: { columns: ResultColumn[]; rows: Cell[][]; offset?: number }) {
  return (
    <div class="card scroll-xy">
      <table class="grid result" onKeyDown={walkWithArrows}>
        <thead>
          <tr>
            <th class="right muted">#</th>
            {columns.map((column, i) => <th key={i} class={alignOf(column.kind)} title={column.type}>{column.name}{column.kind === 'time' && <small class="unit"> UTC</small>}</th>)}
          </tr>
        </thead>
        <tbody>
          {rows.map((row, i) => (
            <tr key={i} tabIndex={0} data-item>
              <td class="num right muted">{offset + i + 1}</td>
              {row.map((value, j) => <td key={j} class={`clip ${alignOf(columns[j]?.kind)}`} title={typeof value === 'string' && value.length > 40 ? value : undefined}><CellText value={value} kind={columns[j]?.kind} /></td>)}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
