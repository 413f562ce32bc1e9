import { Dialog } from '../ui/dialog';
import { VIEWS } from './registry';

const KEYS: [string, string][] = [
  ['/', 'to the search field of the view'],
  ['↑ ↓ Home End', 'walk in lists and tables'],
  ['Enter', 'open what has the focus'],
  ['Space', 'select a quarantined row'],
  ['r', 'replay what is selected (quarantine)'],
  ['Ctrl Enter', 'run the query (SQL)'],
  ['Esc', 'close a panel or window; leave the SQL editor with Esc, then Tab'],
  ['T', 'light or dark'],
  ['?', 'this page'],
];

export function Help({ onClose }: { onClose: () => void }) {
  return (
    <Dialog title="Keys and help" onClose={onClose} wide>
      <div class="help">
        <section>
          <h3>Views</h3>
          <dl class="keys">
            {VIEWS.map((entry) => (
              <div key={entry.id}>
                <dt><kbd>g</kbd> <kbd>{entry.key}</kbd></dt>
                <dd><strong>{entry.label}</strong> <span class="muted">{entry.question}</span></dd>
              </div>
            ))}
          </dl>
        </section>
        <section>
          <h3>Everywhere</h3>
          <dl class="keys">
            {KEYS.map(([key, what]) => (
              <div key={key}>
                <dt>{key.split(' ').map((part) => <kbd key={part}>{part}</kbd>)}</dt>
                <dd>{what}</dd>
              </div>
            ))}
          </dl>
          <p class="muted">Times are in your zone; hold the pointer over one to see UTC. A dash – means: not known.</p>
        </section>
      </div>
    </Dialog>
  );
}
