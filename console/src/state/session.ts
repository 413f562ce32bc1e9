/** Who looks, and what they may do. */
import { computed, signal } from '@preact/signals';
import { api, whenUnauthorized } from '../api/client';
import { connect, disconnect } from '../api/live';
import type { Role, Session } from '../api/types';

export const session = signal<Session | null>(null);
/** Set while not even the session could be asked for. */
export const unreachable = signal<Error | null>(null);

export const mustLogIn = computed(() => session.value?.required === true && !session.value.authenticated);

const RANK: Record<Role, number> = { ingest: -1, viewer: 0, operator: 1, admin: 2 };

export function may(role: Role): boolean {
  const mine = session.value?.role;
  return mine !== null && mine !== undefined && RANK[mine] >= RANK[role];
}

function take(answer: Session): void {
  session.value = answer;
  if (answer.required && !answer.authenticated) disconnect();
  else connect();
}

export async function loadSession(): Promise<void> {
  try {
    take(await api.session());
    unreachable.value = null;
  } catch (error) {
    unreachable.value = error as Error;
    setTimeout(loadSession, 2000);
  }
}

export async function logIn(token: string): Promise<void> {
  take(await api.login(token));
}

export async function logOut(): Promise<void> {
  await api.logout();
  take(await api.session());
}

whenUnauthorized(() => {
  const now = session.value;
  if (now?.authenticated) take({ ...now, required: true, authenticated: false, name: null, role: null });
});
