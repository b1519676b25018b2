/** @file Data parallelism as a baseline: every device trains the whole model on its part of the batch; states whole or sharded (ZeRO-1, 2, 3). */
import { allReduceMs, deviceCountOf } from '../../cluster/links.ts';
import type { Baseline } from '../../types.ts';
import { frozenBytes, frozenMs } from '../frozen.ts';
import type { Job } from '../job.ts';
import { divisors } from '../shapes.ts';

/** What is divided over the devices: nothing, optimiser state, also gradients, also weights (Rajbhandari et al., arXiv 1910.02054). */
export type ZeroStage = 0 | 1 | 2 | 3;

/** Gradients are summed in buckets of this size while the backward goes on, as PyTorch's DistributedDataParallel does. */
const bucketBytes = 25e6;

interface LayerCost {
	readonly forwardMs: number;
	readonly backwardMs: number;
	readonly paramBytes: number;
	readonly gradBytes: number;
}

interface Option {
	readonly iterationMs: number;
	readonly peakBytes: number;
	readonly detail: string;
}

/**
 * The best data-parallel iteration over accumulation steps and recomputation: frozen work inline, sums of gradients (and gathers of weights) overlapped
 * with computation as far as the order of layers allows. When nothing fits, the smallest need is reported. `inline` false leaves the frozen work out.
 */
export function dataParallel(job: Job, zero: ZeroStage, name: string, inline = true): Baseline {
	const devices = deviceCountOf(job.cluster);
	const local = Math.ceil(job.batch / devices);
	const options: Option[] = [];
	for (const accumulation of divisors(local)) {
		if (accumulation > 64) break;
		for (const recompute of [false, true]) options.push(priced(job, zero, devices, local, accumulation, recompute, inline));
	}
	const limit = job.cluster.memoryBytes;
	const fitting = options.filter(({ peakBytes }) => peakBytes <= limit).sort((a, b) => a.iterationMs - b.iterationMs)[0];
	const best = fitting ?? options.sort((a, b) => a.peakBytes - b.peakBytes)[0]!;
	const iterationMs = fitting ? best.iterationMs : Number.POSITIVE_INFINITY;
	return {
		name,
		iterationMs,
		imagesPerSecond: fitting ? (1000 * job.batch) / iterationMs : 0,
		peakBytes: best.peakBytes,
		fits: fitting !== undefined,
		detail: fitting ? best.detail : 'does not fit in memory',
	};
}

function priced(
	job: Job,
	zero: ZeroStage,
	devices: number,
	local: number,
	accumulation: number,
	recompute: boolean,
	inline: boolean,
): Option {
	const micro = local / accumulation;
	const layers: LayerCost[] = [];
	let [params, grads, optimizer, active, updateMs, largest] = [0, 0, 0, 0, 0, 0];
	job.profile.backbones.forEach((backbone, b) => {
		const costs = job.costs(b, recompute);
		backbone.layers.forEach((layer, at) => {
			const { forwardMs, backwardInputMs, backwardWeightMs, savedBytes } = costs.range(at, at + 1, micro);
			layers.push({
				forwardMs: forwardMs * (1 + backbone.selfConditioning),
				backwardMs: backwardInputMs + backwardWeightMs,
				paramBytes: layer.paramBytes,
				gradBytes: layer.gradBytes,
			});
			params += layer.paramBytes;
			grads += layer.gradBytes;
			optimizer += layer.optimizerBytes ?? 2 * layer.paramBytes;
			active += savedBytes;
			updateMs += layer.updateMs ?? 0;
			largest = Math.max(largest, layer.paramBytes + layer.gradBytes, recompute ? layer.activationBytes * micro : 0);
		});
	});
	const share = (bytes: number, from: ZeroStage) => (zero >= from ? bytes / devices : bytes);
	const peakBytes =
		share(params, 3) + share(grads, 2) + share(optimizer, 1) + active + largest + (inline ? frozenBytes(job.profile.frozen) : 0);
	const before = inline ? frozenMs(job.profile, local) : 0;
	const all = Array.from({ length: devices }, (_, d) => d);
	const sum = (bytes: number) => allReduceMs(job.cluster, bytes, all);
	const trained = zero === 3 ? fullyShardedMs(layers, accumulation, sum) : replicatedMs(layers, accumulation, sum, zero > 0);
	// Gathering updated weights can hide behind the next iteration's frozen work and forward, no further.
	const forward = layers.reduce((n, l) => n + l.forwardMs, 0);
	const gather = zero === 1 || zero === 2 ? Math.max(0, sum(params) / 2 - before - forward) : 0;
	const iterationMs = before + trained + gather + (zero > 0 ? updateMs / devices : updateMs);
	const steps = accumulation === 1 ? '' : `, ${accumulation} accumulation steps`;
	return { iterationMs, peakBytes, detail: `${local} samples per device${steps}${recompute ? ', recomputed' : ''}` };
}

/** Forward and backward of every accumulation step; in the last, buckets of gradients are summed (or reduce-scattered, at half the cost) as they fill. */
function replicatedMs(layers: readonly LayerCost[], accumulation: number, sum: (bytes: number) => number, scatter: boolean): number {
	const forward = layers.reduce((n, l) => n + l.forwardMs, 0);
	const backward = layers.reduce((n, l) => n + l.backwardMs, 0);
	let now = (accumulation - 1) * (forward + backward) + forward;
	let linkFree = now;
	let bucket = 0;
	layers.toReversed().forEach((layer, i) => {
		now += layer.backwardMs;
		bucket += layer.gradBytes;
		if (bucket < bucketBytes && i + 1 < layers.length) return;
		linkFree = Math.max(linkFree, now) + sum(bucket) * (scatter ? 0.5 : 1);
		bucket = 0;
	});
	return Math.max(now, linkFree);
}

/** Weights gathered layer by layer ahead of forward and backward, gradients scattered behind it, all on one link; every accumulation step again. */
function fullyShardedMs(layers: readonly LayerCost[], accumulation: number, sum: (bytes: number) => number): number {
	let now = 0;
	let linkFree = 0;
	const computeAfterGather = (layer: LayerCost, ms: number) => {
		linkFree += sum(layer.paramBytes) / 2;
		now = Math.max(now, linkFree) + ms;
	};
	for (let step = 0; step < accumulation; step++) {
		linkFree = Math.max(linkFree, now - layers[0]!.forwardMs);
		for (const layer of layers) computeAfterGather(layer, layer.forwardMs);
		let scattered = 0;
		for (const layer of layers.toReversed()) {
			computeAfterGather(layer, layer.backwardMs);
			// A scatter waits for its gradient, and the next gathers go before it on the link: its time is added to what the link has to do.
			scattered = Math.max(scattered, now) + sum(layer.gradBytes) / 2;
			linkFree += sum(layer.gradBytes) / 2;
		}
		now = Math.max(now, scattered, linkFree);
	}
	return now;
}
