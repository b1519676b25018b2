/** @file Where the time of a traced step goes, per device. */
import { extentOf } from '../../dist/program/timeline.js';
import { significant } from './stats.mjs';

const kinds = {
	/** Forward and backward. */
	work: (span) => span.kind === 'run' && span.action !== undefined,
	/** Gradient norm and optimiser. */
	update: (span) => span.kind === 'update' || (span.kind === 'run' && span.action === undefined),
	/** Handing tensors to other devices, in and out, and giving their memory back. */
	transfer: ({ kind }) => ['send', 'feed', 'fetch', 'drop'].includes(kind),
};

/** Parts of a device's step. */
const parts = [...Object.keys(kinds), 'all_reduce', 'wait'];

/**
 * Milliseconds that each device spends in `work`, `update`, `transfer`, `all_reduce`, and `wait`: what is left of the step's `total`, from the first start
 * to the last end over all devices. Only for timelines in which the spans of a device do not overlap. The device that comes last to an all-reduce does
 * not wait in it: its time is that of the sum, what the others spend there beyond it is waiting.
 */
export function breakdown(timeline) {
	const { start, end } = extentOf(timeline);
	const reduces = timeline.devices.map(({ spans }) =>
		spans.filter((s) => s.kind === 'allReduce').map((s) => ({ name: s.name, ms: s.end - s.start })),
	);
	const shortest = new Map();
	for (const { name, ms } of reduces.flat()) shortest.set(name, Math.min(ms, shortest.get(name) ?? ms));
	return timeline.devices.map(({ device, spans }, k) => {
		const sum = (of) => spans.filter(of).reduce((ms, span) => ms + span.end - span.start, 0);
		const busy = Object.fromEntries(Object.entries(kinds).map(([name, of]) => [name, sum(of)]));
		busy.all_reduce = reduces[k].reduce((ms, { name }) => ms + shortest.get(name), 0);
		const total = end - start;
		return { device, ...busy, wait: total - Object.values(busy).reduce((a, b) => a + b, 0), total };
	});
}

/** Mean over devices of each part. */
export function meanBreakdown(devices) {
	return Object.fromEntries([...parts, 'total'].map((k) => [k, devices.reduce((sum, d) => sum + d[k], 0) / devices.length]));
}

/** One device's parts as columns of a table: `work_ms` and so on. */
export function breakdownColumns(device) {
	return Object.fromEntries([...parts, 'total'].map((k) => [`${k}_ms`, significant(device[k])]));
}
