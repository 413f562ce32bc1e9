/** The views: their names, keys and the question each answers. The only list of them. */
import type { ComponentType } from 'preact';
import type { IconName } from '../ui/icons';
import { AlertsView } from './alerts';
import { CheckpointsView } from './checkpoints';
import { LedgerView } from './ledger';
import { OverviewView } from './overview/overview';
import { PerformanceView } from './performance/performance';
import { QuarantineView } from './quarantine/quarantine';
import { SqlView } from './sql/sql';
import { TablesView } from './tables/tables';

export interface ViewEntry {
  id: string;
  label: string;
  key: string;
  icon: IconName & string;
  view: ComponentType;
  question: string;
}

export const VIEWS: ViewEntry[] = [
  { id: 'overview', label: 'Overview', key: 'o', icon: 'overview', view: OverviewView, question: 'Is all well, and if not, what is in the way?' },
  { id: 'performance', label: 'Performance', key: 'p', icon: 'performance', view: PerformanceView, question: 'How much, how fast, since when?' },
  { id: 'ledger', label: 'Ledger', key: 'l', icon: 'ledger', view: LedgerView, question: 'Where did every record go?' },
  { id: 'quarantine', label: 'Quarantine', key: 'q', icon: 'quarantine', view: QuarantineView, question: 'Which rows were refused, why, and can they go again?' },
  { id: 'alerts', label: 'Alerts', key: 'a', icon: 'alerts', view: AlertsView, question: 'What called, since when, who has it?' },
  { id: 'tables', label: 'Tables', key: 't', icon: 'tables', view: TablesView, question: 'What is in the tables, and what comes in now?' },
  { id: 'sql', label: 'SQL', key: 's', icon: 'sql', view: SqlView, question: 'Whatever else you want to know.' },
  { id: 'checkpoints', label: 'Checkpoints', key: 'c', icon: 'checkpoints', view: CheckpointsView, question: 'What would a restart start from?' },
];
