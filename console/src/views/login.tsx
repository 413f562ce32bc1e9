import { useState } from 'preact/hooks';
import { logIn, session } from '../state/session';
import { Failure } from '../ui/bits';
import markUrl from '../icon.svg';

export function Login() {
  const [token, setToken] = useState('');
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<Error | null>(null);

  const submit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      await logIn(token.trim());
    } catch (failure) {
      setError(failure as Error);
      setBusy(false);
    }
  };

  return (
    <main class="alone">
      <form class="card login" onSubmit={submit}>
        <h1><img src={markUrl} alt="" width="32" height="32" /> Watershed</h1>
        <p class="muted">This console asks who you are. Log in with an access token.</p>
        <label>
          Access token
          <input
            type="password"
            name="token"
            autoComplete="current-password"
            placeholder="ws_…"
            required
            autofocus
            value={token}
            onInput={(event) => setToken(event.currentTarget.value)}
          />
        </label>
        {error && <Failure error={error} />}
        <button type="submit" class="primary" disabled={busy || token.trim() === ''}>{busy ? 'Logging in…' : 'Log in'}</button>
        <p class="muted small">No token? Whoever runs this pipeline can make one. Version {session.value?.version}</p>
      </form>
    </main>
  );
}
