import { computed, signal } from '@preact/signals';
import { subscribe } from '../api/live';
import type { Alert, AlertsAnswer } from '../api/types';

export const alerts = signal<AlertsAnswer | null>(null);

export function watchAlerts(): () => void {
  return subscribe('alerts', (message) => {
    alerts.value = message.data as AlertsAnswer;
  });
}

export const isOpen = (alert: Alert): boolean => alert.state === 'firing' || alert.state === 'pending';
export const isSilenced = (alert: Alert, now: number): boolean => (alert.silenced_until ?? 0) / 1000 > now;

export const open = computed(() => (alerts.value?.alerts ?? []).filter(isOpen));
export const firing = computed(() => open.value.filter((alert) => alert.state === 'firing'));
