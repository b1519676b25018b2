/** @file Puts measured times of stages and frozen frames in place of a profile's sums, layer by layer in proportion. */
import type { Action } from '../schedules/types.ts';
import type { Plan } from '../types.ts';
import { measuredHandling } from './handling.ts';
import { timeAt } from './times.ts';
import type { FrozenComponent, FrozenLayer, Profile, TrainedLayer } from './types.ts';

/** What a device did, of what a plan says about it. */
export interface MeasuredSpan {
	readonly kind: string;
	/** ms. */
	readonly start: number;
	readonly end: number;
	readonly action?: Action;
	/** Occupies no device. */
	readonly beside?: boolean;
	/** Of a send and its receive: the same name, of no other in the iteration. */
	readonly message?: string;
	/** Layers [from, to) of a component on samples [from, to). */
	readonly frozen?: { readonly part: string; readonly layers: readonly [number, number]; readonly samples: readonly [number, number] };
}

/** A measured iteration. Waits are spans of their own (`recv`, `idle`): between two spans of a device nothing waits. */
export interface MeasuredTimeline {
	/** How long the host waited for it, ms. */
	readonly stepMs?: number;
	readonly devices: readonly { readonly device: number; readonly spans: readonly MeasuredSpan[] }[];
}

/**
 * `profile` with every layer's times scaled so that the sums over each stage of `plan` (forward, backward, optimiser) and over each frozen frame are the
 * medians that `timelines` measured. A stage's layers are scaled alike; so are a frame's, at the batch sizes of the profile around its samples, and at the
 * other sizes by the mean factor of the layer. Frames that contradict each other are met in proportion. What was not measured, or took no time in the
 * profile, stays. What passes beside the layers' work is the mean of what was measured. Expects the plan's stages to be the timelines'.
 */
export function correctProfile(profile: Profile, plan: Plan, timelines: readonly MeasuredTimeline[]): Profile {
	return {
		...profile,
		backbones: profile.backbones.map((backbone) => ({
			...backbone,
			layers: plan.stages.reduce<readonly TrainedLayer[]>(
				(layers, stage, s) => (stage.backbone === backbone.name ? correctStage(layers, profile.batchSizes, plan, s, timelines) : layers),
				backbone.layers,
			),
		})),
		frozen: profile.frozen.map((component) => correctComponent(component, profile.batchSizes, timelines)),
		handling: measuredHandling(timelines),
	};
}

function correctStage(
	layers: readonly TrainedLayer[],
	batchSizes: readonly number[],
	plan: Plan,
	s: number,
	timelines: readonly MeasuredTimeline[],
): readonly TrainedLayer[] {
	const stage = plan.stages[s]!;
	const [from, to] = stage.layers;
	const local = plan.batch / (plan.pipelines * plan.microBatches * stage.replicas);
	const own = layers.slice(from, to);
	const sum = (of: (layer: TrainedLayer) => readonly number[]) => own.reduce((ms, layer) => ms + timeAt(batchSizes, of(layer), local), 0);
	const measured = (kind: Action['kind']) =>
		median(spansOf(timelines).flatMap(({ action, start, end }) => (action?.stage === s && action.kind === kind ? [end - start] : [])));
	const [forward, whole, inputs, weights] = [measured('F'), measured('B'), measured('I'), measured('W')];
	const f = factor(
		forward,
		sum((l) => l.forwardMs),
	);
	// A backward that recomputes has the forward in it.
	const again = plan.recompute ? f * sum((l) => l.forwardMs) : 0;
	const less = (ms: number | undefined) => (ms === undefined ? undefined : Math.max(0, ms - again));
	const [inputMs, weightMs] = [sum((l) => l.backwardInputMs), sum((l) => l.backwardWeightMs)];
	const both = factor(less(whole), inputMs + weightMs);
	const i = inputs === undefined ? both : factor(less(inputs), inputMs);
	const w = weights === undefined ? both : factor(weights, weightMs);
	const alone = plan.stages.filter(({ rank }) => rank === stage.rank).length === 1;
	const updates = timelines.flatMap(({ devices }) =>
		devices.flatMap(({ device, spans }) =>
			stage.devices.includes(device) ? spans.flatMap(({ kind, start, end }) => (kind === 'update' ? [end - start] : [])) : [],
		),
	);
	const u = factor(
		alone ? median(updates) : undefined,
		own.reduce((ms, { updateMs = 0 }) => ms + updateMs, 0),
	);
	return layers.map((layer, at) =>
		at < from || at >= to
			? layer
			: {
					...layer,
					forwardMs: scaled(layer.forwardMs, f),
					backwardInputMs: scaled(layer.backwardInputMs, i),
					backwardWeightMs: scaled(layer.backwardWeightMs, w),
					...(layer.updateMs === undefined ? {} : { updateMs: u * layer.updateMs }),
				},
	);
}

/** Layers [from, to) on so many samples took so long. */
interface Frame {
	readonly from: number;
	readonly to: number;
	readonly samples: number;
	readonly ms: number;
}

/** Rounds of scaling at most; frames that agree with each other are met in a few. */
const rounds = 50;

function correctComponent(
	component: FrozenComponent,
	batchSizes: readonly number[],
	timelines: readonly MeasuredTimeline[],
): FrozenComponent {
	const frames = framesOf(component.name, timelines);
	const factors = component.layers.map(() => batchSizes.map(() => 1));
	const touched = component.layers.map(() => new Set<number>());
	const timesOf = ({ forwardMs }: FrozenLayer, l: number) => forwardMs.map((ms, b) => ms * factors[l]![b]!);
	for (let round = 0, off = 1; round < rounds && off > 1e-9; round++) {
		off = 0;
		for (const { from, to, samples, ms } of frames) {
			const own = component.layers.slice(from, to);
			const f = factor(
				ms,
				own.reduce((sum, layer, k) => sum + timeAt(batchSizes, timesOf(layer, from + k), samples), 0),
			);
			off = Math.max(off, Math.abs(f - 1));
			for (let l = from; l < to; l++) {
				for (const b of sizesAround(batchSizes, samples)) {
					factors[l]![b]! *= f;
					touched[l]!.add(b);
				}
			}
		}
	}
	return {
		...component,
		layers: component.layers.map((layer, l) => {
			const known = [...touched[l]!];
			const mean = known.length === 0 ? 1 : Math.exp(known.reduce((sum, b) => sum + Math.log(factors[l]![b]!), 0) / known.length);
			return { ...layer, forwardMs: layer.forwardMs.map((ms, b) => ms * (touched[l]!.has(b) ? factors[l]![b]! : mean)) };
		}),
	};
}

/** The median time of each frame of a component. */
function framesOf(name: string, timelines: readonly MeasuredTimeline[]): Frame[] {
	const found = new Map<string, { readonly frame: Omit<Frame, 'ms'>; readonly ms: number[] }>();
	for (const { frozen, start, end } of spansOf(timelines)) {
		if (frozen?.part !== name) continue;
		const [from, to] = frozen.layers;
		const samples = frozen.samples[1] - frozen.samples[0];
		const key = `${from} ${to} ${samples}`;
		const entry = found.get(key) ?? { frame: { from, to, samples }, ms: [] };
		found.set(key, entry);
		entry.ms.push(end - start);
	}
	return [...found.values()].map(({ frame, ms }) => ({ ...frame, ms: median(ms)! }));
}

/** Which batch sizes the time at `samples` is made from. */
function sizesAround(batchSizes: readonly number[], samples: number): readonly number[] {
	const above = batchSizes.findIndex((size) => size >= samples);
	if (above < 0) return [batchSizes.length - 1];
	return above === 0 || batchSizes[above] === samples ? [above] : [above - 1, above];
}

function spansOf(timelines: readonly MeasuredTimeline[]): readonly MeasuredSpan[] {
	return timelines.flatMap(({ devices }) => devices.flatMap(({ spans }) => spans));
}

/** What brings `sum` to `measured`; 1 where either is nothing. */
function factor(measured: number | undefined, sum: number): number {
	return measured !== undefined && measured > 0 && sum > 0 ? measured / sum : 1;
}

function scaled(ms: readonly number[], by: number): readonly number[] {
	return ms.map((each) => each * by);
}

function median(values: readonly number[]): number | undefined {
	const sorted = [...values].sort((a, b) => a - b);
	const middle = sorted.length >> 1;
	return sorted.length % 2 === 1 ? sorted[middle] : sorted.length === 0 ? undefined : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
