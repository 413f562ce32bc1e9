/**
 * An account as an equation and as a bar. The sum is made here, in the browser, from the figures that are shown: the mark
 * says that what one sees adds up, not that somebody said so.
 */
import type { Account } from '../api/types';
import { count, percent } from '../lib/format';
import { Icon } from './icons';

export const FATES = ['delivered', 'filtered', 'duplicate', 'late', 'quarantined'] as const;

export const FATE_MEANING: Record<(typeof FATES)[number], string> = {
  delivered: 'reached the table, or a window or join of it',
  filtered: 'left out by WHERE or a DROP rule',
  duplicate: 'seen before',
  late: 'behind the watermark; kept in quarantine',
  quarantined: 'refused; kept in quarantine',
};

export const sumOf = (account: Account): number => FATES.reduce((sum, fate) => sum + account[fate], 0);
export const addsUp = (account: Account): boolean => sumOf(account) === account.read;

export function FateBar({ account }: { account: Account }) {
  const total = Math.max(account.read, 1);
  const text = FATES.filter((fate) => account[fate] > 0).map((fate) => `${fate} ${count(account[fate])} (${percent(account[fate] / total)})`).join(', ');
  return (
    <div class="fates" role="img" aria-label={text || 'nothing read'} title={text}>
      {FATES.map((fate) => account[fate] > 0 && <i key={fate} class={`fate-${fate}`} style={{ flexGrow: account[fate] / total }} />)}
    </div>
  );
}

export function Verdict({ account }: { account: Account }) {
  const difference = account.read - sumOf(account);
  return difference === 0
    ? <span class="verdict good"><Icon name="ok" size={14} /> adds up</span>
    : <span class="verdict bad"><Icon name="failed" size={14} /> off by {count(difference)}</span>;
}

/** The equation, one line a fate: for a narrow place. */
export function Balance({ account }: { account: Account }) {
  const total = Math.max(account.read, 1);
  return (
    <div class="balance">
      <FateBar account={account} />
      <table class="grid compact">
        <tbody>
          <tr><th>read</th><td class="num right"><b>{count(account.read)}</b></td><td /></tr>
          {FATES.map((fate, i) => (
            <tr key={fate} title={FATE_MEANING[fate]}>
              <th><span class="op">{i === 0 ? '=' : '+'}</span> <i class={`swatch fate-${fate}`} /> {fate}</th>
              <td class="num right">{count(account[fate])}</td>
              <td class="num right muted">{percent(account[fate] / total)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <p><Verdict account={account} />{account.lost > 0 && <span class="pill bad">{count(account.lost)} gone before they could be read</span>}</p>
    </div>
  );
}
