/** @file A predicted timeline beside a measured one of the same devices: where the time of each went, and by how much they differ. */
import { bubbleRatio, busyIntervals, type DeviceTimeline, extentOf, type Span, type Timeline } from './timeline.ts';
import type { DeviceId } from './types.ts';

/** One quantity, both ways. */
export interface Pair {
	readonly predicted: number;
	readonly measured: number;
}

/** Time of one kind of work, ms. */
export interface KindTime extends Pair {
	/** `forward`, `frozen vae`, ... */
	readonly kind: string;
}

export interface DeviceComparison {
	readonly device: DeviceId;
	/** In the order of `kinds`; transfers and what else goes on beside work are in no sum with the others. */
	readonly kinds: readonly KindTime[];
}

export interface Comparison {
	/** From the first start to the last end, ms. */
	readonly iterationMs: Pair;
	/** Share of all devices' time in which they wait. */
	readonly bubble: Pair;
	readonly devices: readonly DeviceComparison[];
	/** Over all devices. */
	readonly total: readonly KindTime[];
}

const actionKinds = { F: 'forward', B: 'backward', I: 'backward for inputs', W: 'backward for weights' } as const;
const order = [
	...Object.values(actionKinds),
	'frozen',
	'other graphs',
	'update',
	'sums over devices',
	'collective',
	'feed',
	'fetch',
	'drop',
	'transfers',
	'idle',
];

/** What a span counts as; undefined for waits, which are what is left of a device's time. */
export function kindOf({ kind, action, part }: Span): string | undefined {
	if (action) return actionKinds[action.kind];
	switch (kind) {
		case 'frozen':
			return part ? `frozen ${part}` : 'frozen';
		case 'run':
			return 'other graphs';
		case 'allReduce':
			return 'sums over devices';
		case 'allGather':
			return 'collective';
		case 'send':
			return 'transfers';
		case 'recv':
		case 'idle':
			return undefined;
		default:
			return kind;
	}
}

/** Compares the devices that both timelines have, in the order of the prediction. */
export function compareTimelines(predicted: Timeline, measured: Timeline): Comparison {
	const found = commonDevices(predicted, measured);
	const [before, after] = [extentOf(found.predicted), extentOf(found.measured)];
	const devices = found.predicted.devices.map(({ device }, i): DeviceComparison => {
		const of = (timeline: Timeline, ms: number) => timesOf(timeline.devices[i]!, ms);
		return { device, kinds: paired(of(found.predicted, before.end - before.start), of(found.measured, after.end - after.start)) };
	});
	const sum = (of: 'predicted' | 'measured') => {
		const total = new Map<string, number>();
		for (const { kinds } of devices) for (const pair of kinds) total.set(pair.kind, (total.get(pair.kind) ?? 0) + pair[of]);
		return total;
	};
	return {
		iterationMs: { predicted: before.end - before.start, measured: after.end - after.start },
		bubble: { predicted: bubbleRatio(found.predicted), measured: bubbleRatio(found.measured) },
		devices,
		total: paired(sum('predicted'), sum('measured')),
	};
}

/**
 * Both timelines with the devices that both have alone (a prediction shows the first pipeline), and the measured one's work under the names that the
 * prediction gives backbones, so that both are painted alike.
 */
export function commonDevices(predicted: Timeline, measured: Timeline): { readonly predicted: Timeline; readonly measured: Timeline } {
	const known = new Map(measured.devices.map((each) => [each.device, each]));
	const shown = predicted.devices.filter(({ device }) => known.has(device));
	const parts = new Map(
		predicted.devices.flatMap(({ spans }) => spans.flatMap(({ action, part }) => (action && part ? [[action.stage, part] as const] : []))),
	);
	const named = (span: Span): Span => {
		const part = span.action && parts.get(span.action.stage);
		return part && span.part === undefined ? { ...span, part } : span;
	};
	return {
		predicted: { devices: shown },
		measured: { devices: shown.map(({ device }) => ({ device, spans: known.get(device)!.spans.map(named) })) },
	};
}

function timesOf(device: DeviceTimeline, extentMs: number): Map<string, number> {
	const times = new Map<string, number>();
	for (const span of device.spans) {
		const kind = kindOf(span);
		if (kind === undefined) continue;
		times.set(kind, (times.get(kind) ?? 0) + span.end - span.start);
	}
	times.set('idle', extentMs - busyIntervals(device).reduce((sum, { start, end }) => sum + end - start, 0));
	return times;
}

function paired(predicted: ReadonlyMap<string, number>, measured: ReadonlyMap<string, number>): KindTime[] {
	const rank = (kind: string) => order.indexOf(kind.startsWith('frozen') ? 'frozen' : kind);
	return [...new Set([...predicted.keys(), ...measured.keys()])]
		.sort((a, b) => rank(a) - rank(b) || a.localeCompare(b))
		.map((kind) => ({ kind, predicted: predicted.get(kind) ?? 0, measured: measured.get(kind) ?? 0 }));
}

/** `measured` over `predicted`, less one: by how much the prediction was short. Undefined where nothing was predicted. */
export function relativeDifference({ predicted, measured }: Pair): number | undefined {
	return predicted > 0 ? measured / predicted - 1 : undefined;
}
