/** @file What any run of consecutive layers of a backbone costs as a stage: sums over its layers, at the batch one device sees. */
import { timeAt } from '../profile/times.ts';
import type { Backbone, Profile } from '../profile/types.ts';

/** A run of layers [from, to) on one device, per micro-batch of `local` samples. */
export interface RangeCost {
	readonly forwardMs: number;
	/** With the forward run again when activations are recomputed. */
	readonly backwardInputMs: number;
	readonly backwardWeightMs: number;
	/** Optimiser step. */
	readonly updateMs: number;
	/** Kept from the forward to the backward, per micro-batch. */
	readonly savedBytes: number;
	/** Weights, gradients, optimiser state, and with recomputation the activations of the one micro-batch that runs backward. */
	readonly staticBytes: number;
	readonly gradBytes: number;
}

/** Costs of the runs of one backbone's layers. */
export interface BackboneCosts {
	readonly layers: number;
	/** `local`: samples on one device; need not be whole. */
	range(from: number, to: number, local: number): RangeCost;
	/** Bytes per sample at the cut before layer `at`; 0 at both ends. */
	cutBytes(at: number): number;
	/** What of that is skips from a layer in [from, at) to one in [at', to): used by placements that keep both ends on one device. */
	skipBytes(maker: readonly [number, number], user: readonly [number, number]): number;
}

interface Sums {
	/** Ranges already asked for, at from * (layers + 1) + to. */
	readonly ranges: (RangeCost | undefined)[];
	readonly forward: Float64Array;
	readonly input: Float64Array;
	readonly weight: Float64Array;
}

/** The costs of `backbone`, with or without recomputation. Sums and ranges are kept per batch, so that asking again costs nothing. */
export function backboneCosts({ batchSizes }: Pick<Profile, 'batchSizes'>, backbone: Backbone, recompute: boolean): BackboneCosts {
	const { layers, skips = [] } = backbone;
	const perBatch = new Map<number, Sums>();
	const sumsAt = (local: number): Sums => {
		let sums = perBatch.get(local);
		if (!sums) {
			const of = (key: 'forwardMs' | 'backwardInputMs' | 'backwardWeightMs') =>
				prefix(layers.map((l) => timeAt(batchSizes, l[key], local)));
			sums = { ranges: [], forward: of('forwardMs'), input: of('backwardInputMs'), weight: of('backwardWeightMs') };
			perBatch.set(local, sums);
		}
		return sums;
	};
	const statics = prefix(layers.map((l) => l.paramBytes + l.gradBytes + (l.optimizerBytes ?? 2 * l.paramBytes)));
	const gradients = prefix(layers.map((l) => l.gradBytes));
	const activations = prefix(layers.map((l) => l.activationBytes));
	const updates = prefix(layers.map((l) => l.updateMs ?? 0));
	const cutBytes = (at: number) => (at <= 0 || at >= layers.length ? 0 : layers[at - 1]!.cutBytes);
	return {
		layers: layers.length,
		cutBytes,
		range(from, to, local) {
			const { ranges, forward, input, weight } = sumsAt(local);
			const key = from * (layers.length + 1) + to;
			const known = ranges[key];
			if (known) return known;
			const forwardMs = forward[to]! - forward[from]!;
			const active = (activations[to]! - activations[from]!) * local;
			const range: RangeCost = {
				forwardMs,
				backwardInputMs: input[to]! - input[from]! + (recompute ? forwardMs : 0),
				backwardWeightMs: weight[to]! - weight[from]!,
				updateMs: updates[to]! - updates[from]!,
				savedBytes: recompute ? Math.min(active, cutBytes(from) * local) : active,
				staticBytes: statics[to]! - statics[from]! + (recompute ? active : 0),
				gradBytes: gradients[to]! - gradients[from]!,
			};
			ranges[key] = range;
			return range;
		},
		skipBytes: ([makerFrom, makerTo], [userFrom, userTo]) =>
			skips.reduce(
				(sum, { from, to, bytes }) => sum + (from >= makerFrom && from < makerTo && to >= userFrom && to < userTo ? bytes : 0),
				0,
			),
	};
}

function prefix(values: readonly number[]): Float64Array {
	const sums = new Float64Array(values.length + 1);
	values.forEach((value, i) => {
		sums[i + 1] = sums[i]! + value;
	});
	return sums;
}
