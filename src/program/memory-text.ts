/** @file Memory over time as text for terminals: a bar per stretch of time. */
import { formatBytes } from '../core/units.ts';
import { escapeControls } from './picture/escape.ts';

const bars = '▁▂▃▄▅▆▇█';

/** One row of the picture. */
export interface MemoryRow {
	readonly label: string;
	/** The first at the start; each holds until the next. */
	readonly steps: readonly { readonly ms: number; readonly bytes: number }[];
}

/**
 * A row per entry of `columns` bars from 0 to `endMs`, each as high as the most that is held in its stretch, of `limitBytes` where it is finite and of the
 * most of all rows where it is not; what is above the limit shows as `!`. Behind it the most of the row.
 */
export function renderMemory(rows: readonly MemoryRow[], endMs: number, limitBytes: number, columns: number): string {
	const most = Math.max(0, ...rows.flatMap(({ steps }) => steps.map(({ bytes }) => bytes)));
	const limited = limitBytes < Number.MAX_VALUE;
	const full = limited ? limitBytes : most;
	const labels = rows.map(({ label }) => escapeControls(label));
	const width = Math.max(0, ...labels.map((label) => label.length));
	const lines = rows.map(({ steps }, i) => {
		const cells = Array.from({ length: columns }, (_, c) => {
			const bytes = mostWithin(steps, (c * endMs) / columns, ((c + 1) * endMs) / columns);
			if (bytes > full) return '!';
			return bars[full > 0 ? Math.min(bars.length - 1, Math.floor((bytes / full) * bars.length)) : 0]!;
		});
		const peak = Math.max(0, ...steps.map(({ bytes }) => bytes));
		return `${labels[i]!.padEnd(width)} |${cells.join('')}| ${formatBytes(peak)}${limited ? ` of ${formatBytes(limitBytes)}` : ''}`;
	});
	return `${lines.join('\n')}\n`;
}

function mostWithin(steps: MemoryRow['steps'], from: number, to: number): number {
	let most = 0;
	steps.forEach(({ ms, bytes }, i) => {
		const until = steps[i + 1]?.ms ?? Number.POSITIVE_INFINITY;
		if (ms < to && until > from) most = Math.max(most, bytes);
	});
	return most;
}
