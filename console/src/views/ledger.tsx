import { useState } from 'preact/hooks';
import { api } from '../api/client';
import type { LedgerAnswer, LedgerRow } from '../api/types';
import { count, plural } from '../lib/format';
import { href, refine, route } from '../router';
import { graph } from '../state/pipeline';
import { addsUp, Balance, FATES, FATE_MEANING, FateBar, Verdict } from '../ui/balance';
import { Empty, Failure, Loading, Page } from '../ui/bits';
import { walkWithArrows } from '../ui/list';
import { useLoad, useSettled } from '../ui/load';

const PAGE = 60;

function Filters() {
  const { table = '', from = '', to = '' } = route.value.query;
  const tables = (graph.value?.nodes ?? []).filter((node) => node.kind === 'table' || node.kind === 'sink');
  return (
    <div class="filters card" role="search">
      <label>Table
        <select value={table} onChange={(event) => refine({ table: event.currentTarget.value })} data-search>
          <option value="">all</option>
          {tables.map((node) => <option key={node.id} value={node.name}>{node.name}</option>)}
        </select>
      </label>
      <label>From epoch <input class="short" inputMode="numeric" value={from} onInput={(event) => refine({ from: event.currentTarget.value.replace(/\D/g, '') })} /></label>
      <label>to <input class="short" inputMode="numeric" value={to} onInput={(event) => refine({ to: event.currentTarget.value.replace(/\D/g, '') })} /></label>
      {(table || from || to) && <button type="button" class="ghost small" onClick={() => refine({ table: undefined, from: undefined, to: undefined })}>Clear</button>}
    </div>
  );
}

function Row({ row, first }: { row: LedgerRow; first: boolean }) {
  return (
    <tr tabIndex={0} data-item class={`${addsUp(row) ? '' : 'bad'} ${first ? 'first' : ''}`}>
      <td data-label="epoch" class={`num right ${first ? '' : 'zero'}`}>{count(row.epoch)}</td>
      <td><strong>{row.table}</strong> <span class="muted nowrap">← {row.source}</span></td>
      <td class="num right" data-label="read"><b>{count(row.read)}</b></td>
      {FATES.map((fate, i) => (
        <td key={fate} data-label={fate} class={`num right ${row[fate] === 0 ? 'zero' : ''}`}>
          <span class="op" aria-hidden="true">{i === 0 ? '=' : '+'}</span>
          {(fate === 'quarantined' || fate === 'late') && row[fate] > 0
            ? <a href={href('quarantine', { table: row.table, epoch: String(row.epoch), reason: fate === 'late' ? 'late' : undefined })}>{count(row[fate])}</a>
            : count(row[fate])}
        </td>
      ))}
      <td class="bar-cell"><FateBar account={row} /></td>
      <td><Verdict account={row} />{row.lost > 0 && <span class="pill bad">{count(row.lost)} lost before reading</span>}</td>
    </tr>
  );
}

export function LedgerView() {
  const filter = useSettled(route.value.query, 250);
  const query = { table: filter.table, from_epoch: filter.from, to_epoch: filter.to, limit: PAGE };
  const key = JSON.stringify(query);
  const [more, setMore] = useState<{ key: string; pages: LedgerAnswer[] }>({ key, pages: [] });
  const [trouble, setTrouble] = useState<Error | null>(null);
  const { value, error, reload } = useLoad((signal) => api.ledger(query, signal), [key, graph.value?.epoch]);
  const pages = more.key === key ? more.pages : [];

  if (error && !value) return <Page title="Ledger" what={WHAT}><Filters /><Failure error={error} again={reload} /></Page>;
  if (!value) return <Page title="Ledger" what={WHAT}><Filters /><Loading /></Page>;

  // Pages that were fetched before a new epoch may overlap with the first one by then.
  const seen = new Set<string>();
  const rows = [value, ...pages].flatMap((page) => page.rows).filter((row) => {
    const id = `${row.epoch}\n${row.table}\n${row.source}`;
    return seen.has(id) ? false : (seen.add(id), true);
  });
  const next = pages.length > 0 ? pages.at(-1)!.next : value.next;
  const loadMore = async () => {
    try {
      const page = await api.ledger({ ...query, cursor: next ?? undefined });
      setMore({ key, pages: [...pages, page] });
      setTrouble(null);
    } catch (failure) {
      setTrouble(failure as Error);
    }
  };

  return (
    <Page title="Ledger" what={WHAT}>
      <Filters />
      {value.total_rows === 0
        ? (
          <Empty title="No accounts">
            {filter.table || filter.from || filter.to
              ? <p>No committed epoch fits this filter. Clear it to see all.</p>
              : <p>The first account is written when the first epoch is committed, soon after the first record.</p>}
          </Empty>
        )
        : (
          <>
            <section class="card pad totals" aria-label="Totals">
              <div>
                <h2>All {plural(value.total_rows, 'account')} together</h2>
                <p class="muted">Every record that was read has exactly one fate.</p>
              </div>
              <Balance account={value.totals} />
            </section>
            <div class="card scroll-x">
              <table class="grid ledger cards" onKeyDown={walkWithArrows}>
                <thead>
                  <tr>
                    <th class="right">epoch</th><th>table ← input</th><th class="right">read</th>
                    {FATES.map((fate) => <th key={fate} class="right" title={FATE_MEANING[fate]}><i class={`swatch fate-${fate}`} /> {fate}</th>)}
                    <th>shares</th><th>check</th>
                  </tr>
                </thead>
                <tbody>{rows.map((row, i) => <Row key={`${row.epoch} ${row.table} ${row.source}`} row={row} first={rows[i - 1]?.epoch !== row.epoch} />)}</tbody>
              </table>
            </div>
            {trouble && <Failure error={trouble} />}
            <p class="row center">
              <span class="muted num">{count(rows.length)} of {count(value.total_rows)}</span>
              {next && <button type="button" onClick={() => void loadMore()}>Older epochs</button>}
            </p>
          </>
        )}
    </Page>
  );
}

const WHAT = 'Per epoch and table: read = delivered + filtered + duplicate + late + quarantined.';
