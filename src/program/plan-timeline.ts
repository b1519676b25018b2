/** @file A plan's predicted iteration as a timeline: the devices of its first pipeline with their stages, the frozen work between, and the transfers beside. */
import type { FillItem, FillMove } from '../plan/fill/types.ts';
import type { PipelineSpan, PipelineTimeline, PipelineTransfer } from '../plan/pipeline/types.ts';
import type { FrozenComponent } from '../plan/profile/types.ts';
import { formatAction } from '../plan/schedules/text.ts';
import type { SearchResult } from '../plan/search/types.ts';
import type { Plan } from '../plan/types.ts';
import type { Span, Timeline } from './timeline.ts';
import { deviceId } from './types.ts';

/** A device of a plan's first pipeline. */
export interface PipelineDevice {
	/** Its number among all devices of the plan. */
	readonly device: number;
	readonly rank: number;
	/** Which of the devices that share the rank's micro-batches, from 0. */
	readonly replica: number;
	/** Of the plan, in the order of the plan. */
	readonly stages: readonly number[];
}

/** The devices of the first pipeline, rank by rank, in the order that numbers them within a pipeline. */
export function pipelineDevices({ ranks, stages }: Pick<Plan, 'ranks' | 'stages'>): PipelineDevice[] {
	return Array.from({ length: ranks }, (_, rank) => {
		const own = stages.flatMap((stage, i) => (stage.rank === rank ? [i] : []));
		const first = own[0] === undefined ? undefined : stages[own[0]];
		return Array.from({ length: first?.replicas ?? 0 }, (_, replica) => ({ device: first!.devices[replica]!, rank, replica, stages: own }));
	}).flat();
}

/**
 * The iteration that `result` predicts, from 0 to its end. Devices of one rank do the same but for their frozen work. Sums of gradients and moves of
 * frozen outputs go on beside the work. With `frozen` (the profile's) frozen layers are called by their names, without by their numbers.
 */
export function planTimeline(
	{ plan, timeline, fill }: Pick<SearchResult, 'plan' | 'timeline' | 'fill'>,
	frozen: readonly FrozenComponent[] = [],
): Timeline {
	const devices = pipelineDevices(plan);
	const partOf = partsOf(plan, timeline);
	const messages = messagesOf(timeline, partOf);
	const before = frozenBefore({ plan, fill });
	const copies = (rank: number) => devices.filter((d) => d.rank === rank).length;
	return {
		devices: devices.map(({ device, rank, replica }, i) => {
			const suffix = (from: number, to: number) => (replica < Math.min(copies(from), copies(to)) ? ` ${replica}` : undefined);
			const computed = timeline.spans[rank]!.map((span) => {
				const message = messages.received.get(span);
				const end = message && suffix(message.from, message.to);
				return computeSpan(span, before, {
					part: partOf(span.stage),
					...(end === undefined ? {} : { message: message!.name + end }),
				});
			});
			const beside = timeline.transfers.flatMap((transfer) =>
				transfer.from === rank ? [transferSpan(transfer, before, messages.sent.get(transfer), suffix(transfer.from, transfer.to))] : [],
			);
			const filled = fill.items.flatMap((item) => (item.device === i ? [frozenSpan(item, frozen)] : []));
			const moved = fill.moves.flatMap((move) => (move.from === i ? [moveSpan(move, devices, frozen)] : []));
			const first: Span[] = before > 0 ? [{ name: 'frozen components', kind: 'frozen', start: 0, end: before }] : [];
			return { device: deviceId(device), spans: [...first, ...computed, ...beside, ...filled, ...moved].sort(byStart) };
		}),
	};
}

/** Frozen work that is not filled in runs on all devices before the pipeline starts: how long, ms. */
export function frozenBefore({ plan, fill }: Pick<SearchResult, 'plan' | 'fill'>): number {
	return fill.items.length === 0 ? plan.frozenMs : 0;
}

/** The backbone of each stage of the timeline. Sweeps without gradients come before the plan's stages, one for each of them that has one. */
function partsOf({ stages }: Plan, { spans }: PipelineTimeline): (stage: number) => string {
	const count = 1 + Math.max(-1, ...spans.flat().map((span) => span.stage));
	const sweeps = Math.max(0, count - stages.length);
	return (stage) => (stage < sweeps ? `${stages[stage]?.backbone ?? ''} sweep` : (stages[stage - sweeps]?.backbone ?? ''));
}

function byStart(a: Span, b: Span): number {
	return a.start - b.start || a.end - b.end;
}

function computeSpan({ kind, stage, micro, start, end }: PipelineSpan, offset: number, more: Pick<Span, 'part' | 'message'>): Span {
	const when = { start: start + offset, end: end + offset };
	if (kind === 'update') return { name: `update stage ${stage}`, kind, ...when, ...more };
	const action = { stage, kind, micro };
	return { name: formatAction(action), kind: 'run', ...when, action, ...more };
}

function transferSpan(
	{ kind, stage, micro, to, start, end }: PipelineTransfer,
	offset: number,
	message: string | undefined,
	suffix: string | undefined,
): Span {
	const when = { start: start + offset, end: end + offset };
	if (kind === 'allReduce') return { name: `sum gradients of stage ${stage}`, kind, ...when, beside: true };
	const what = kind === 'F' ? 'output' : 'gradient';
	return {
		name: `send ${what} of ${stage}${kind}${micro}`,
		kind: 'send',
		...when,
		...(message === undefined || suffix === undefined ? {} : { message: message + suffix }),
		details: { to: `rank ${to}` },
	};
}

function frozenSpan({ component, layer, samples, startMs, endMs }: FillItem, frozen: readonly FrozenComponent[]): Span {
	return {
		name: layerName(frozen, component, layer),
		kind: 'frozen',
		start: startMs,
		end: endMs,
		part: component,
		details: { component, layer, samples: sampleRange(samples) },
	};
}

function moveSpan(
	{ component, layer, samples, to, startMs, endMs }: FillMove,
	devices: readonly PipelineDevice[],
	frozen: readonly FrozenComponent[],
): Span {
	return {
		name: `send output of ${layerName(frozen, component, layer)}`,
		kind: 'send',
		start: startMs,
		end: endMs,
		details: { to: `device ${devices[to]?.device ?? to}`, samples: sampleRange(samples) },
	};
}

function layerName(frozen: readonly FrozenComponent[], component: string, layer: number): string {
	return `${component} ${frozen.find((c) => c.name === component)?.layers[layer]?.name ?? layer}`;
}

/** `0-15` for [0, 16). */
function sampleRange([from, to]: readonly [number, number]): string {
	return to - from === 1 ? String(from) : `${from}-${to - 1}`;
}

interface Messages {
	readonly sent: ReadonlyMap<PipelineTransfer, string>;
	readonly received: ReadonlyMap<PipelineSpan, { readonly name: string; readonly from: number; readonly to: number }>;
}

/** Which transfer each action waited for: the first action of its kind, micro-batch and backbone that starts on the receiving rank when it has arrived. */
function messagesOf({ spans, transfers }: PipelineTimeline, partOf: (stage: number) => string): Messages {
	const sent = new Map<PipelineTransfer, string>();
	const received = new Map<PipelineSpan, { name: string; from: number; to: number }>();
	const waiting = new Map<string, PipelineSpan[]>();
	const keyOf = (kind: string, rank: number, micro: number) => `${kind} ${rank} ${micro}`;
	spans.forEach((row, rank) => {
		for (const span of row) {
			const key = keyOf(span.kind === 'I' ? 'B' : span.kind, rank, span.micro);
			const list = waiting.get(key);
			if (list) list.push(span);
			else waiting.set(key, [span]);
		}
	});
	for (const transfer of [...transfers].sort((a, b) => a.end - b.end)) {
		const { kind, stage, micro, from, to, end } = transfer;
		if (kind === 'allReduce') continue;
		const receiver = waiting.get(keyOf(kind, to, micro))?.find(
			(span) =>
				span.start >= end - 1e-9 &&
				!received.has(span) &&
				// A sweep's output goes back to the first stage of the backbone itself.
				partOf(span.stage).replace(/ sweep$/, '') === partOf(stage).replace(/ sweep$/, ''),
		);
		if (!receiver) continue;
		const name = `${kind} ${stage} ${micro}`;
		sent.set(transfer, name);
		received.set(receiver, { name, from, to });
	}
	return { sent, received };
}
