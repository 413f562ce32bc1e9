export const REASONS: Record<string, string> = {
  corrupt: 'Its bytes are not of the format. Look at who sends it.',
  schema: 'It does not fit the declared columns. Mend the sender or the CREATE SOURCE, then replay.',
  violation: 'It breaks a rule, or the query failed on it. Mend the data or the rule, then replay.',
  late: 'It came behind the watermark. A longer delay in WATERMARK FOR would take such rows.',
  sink: 'The target refused it. Look at the target, its columns and constraints.',
};
