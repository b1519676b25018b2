/** @file What a person reads who points at a span. */
import { formatMs } from '../../core/units.ts';
import type { Span } from '../timeline.ts';

const words = { F: 'forward', B: 'backward', I: 'backward for inputs', W: 'backward for weights' } as const;

/** Lines: what it is, when it runs, and what else is known. Not escaped. */
export function describeSpan(span: Span, origin: number): string[] {
	const { name, action, part, kind, start, end, details, iteration } = span;
	const what = action ? `${name}: ${words[action.kind]} of micro-batch ${action.micro}, stage ${action.stage}` : name;
	return [
		kind === 'frozen' ? `${what} (frozen)` : part ? `${what} (${part})` : what,
		`${formatMs(start - origin)} to ${formatMs(end - origin)}, takes ${formatMs(end - start)}`,
		...Object.entries(details ?? {}).map(([key, value]) => `${key}: ${value}`),
		...(iteration === undefined ? [] : [`iteration ${iteration}`]),
	];
}
