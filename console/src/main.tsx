import { render } from 'preact';
import 'uplot/dist/uPlot.min.css';
import './styles/tokens.css';
import './styles/base.css';
import './styles/shell.css';
import './styles/parts.css';
import './styles/views.css';
import { App } from './app';
import { reconnectNow } from './api/live';
import { loadSession } from './state/session';

addEventListener('online', reconnectNow);
document.addEventListener('visibilitychange', () => {
  if (document.visibilityState === 'visible') reconnectNow();
});

void loadSession();
const root = document.getElementById('app');
if (root) render(<App />, root);
