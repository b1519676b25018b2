import { describe, expect, it } from 'vitest';
import { acceleratorByName } from '../../../src/plan/analytic/accelerators.ts';
import { jobWork } from '../../../src/plan/analytic/chain-work.ts';
import { type JobName, jobChains } from '../../../src/plan/analytic/jobs/index.ts';
import { namedJob, namedJobs } from '../../../src/plan/analytic/named-jobs.ts';
import { clusterOf, profileOf } from '../../../src/plan/analytic/profile.ts';
import { formatWork, readWork } from '../../../src/plan/analytic/table.ts';
import { addWork, type JobWork } from '../../../src/plan/analytic/work.ts';
import { readCluster } from '../../../src/plan/cluster/read.ts';
import { readProfile } from '../../../src/plan/profile/read.ts';

const names = Object.keys(namedJobs) as JobName[];
const sum = (numbers: readonly number[]) => numbers.reduce((a, b) => a + b, 0);
const macs = (layers: JobWork['frozen'][number]['layers'] | JobWork['backbones'][number]['layers']) => {
	const { convMacs, matmulMacs, attentionMacs } = addWork(...layers.map((l) => l.forward));
	return (convMacs + matmulMacs + attentionMacs) / 1e9;
};

describe('named jobs', () => {
	it('are those that chains are known of', () => {
		expect(names).toEqual(Object.keys(jobChains));
		for (const name of names) expect(namedJob(name).name).toBe(name);
		expect(() => namedJob('sd12')).toThrow(/job sd12 is not known\n.*sd21.*\n.*did you mean sd21/);
	});

	// Totals of published sizes; see test/models/sizes. Layers that share parameters count them each.
	it.each<[JobName, trained: readonly number[], backbones: readonly number[], frozen: readonly number[]]>([
		['sd21', [865.91], [402.1], [558.3, 22.6]],
		['sdxl', [2567.46], [3380.6], [2439.5, 6.6, 48.9]],
		['controlnet', [361.28], [412.6], [558.3, 6.6, 130.7]],
		['cdm-imagenet', [295.9, 311.8], [109.7, 631.6], []],
		['flux', [11901.41], [37192.3], [2441.3, 6.6, 2422.4]],
	])('%s has the published size', (name, trained, backbones, frozen) => {
		const job = namedJob(name);
		const millions = job.backbones.map((b) => sum(b.layers.map((l) => l.trainedParameters)) / 1e6);
		const near = (found: readonly number[], wanted: readonly number[]) => {
			expect(found.length).toBe(wanted.length);
			found.forEach((value, i) => {
				expect(Math.abs(value - wanted[i]!)).toBeLessThan(0.06);
			});
		};
		near(millions, trained);
		near(
			job.backbones.map((b) => macs(b.layers)),
			backbones,
		);
		near(
			job.frozen.map((f) => macs(f.layers)),
			frozen,
		);
	});

	it.each(['dit-xl', 'controlnet'] as const)('of %s agree with tracing', (name) => {
		// What is saved follows the gradient rules, which get better: it may drift until scripts/make-jobs.mjs runs again.
		const split = (job: JobWork) => {
			const saved = job.backbones.flatMap((b) => b.layers.map((l) => l.savedElements));
			const rest = job.backbones.map((b) => ({ ...b, layers: b.layers.map((l) => ({ ...l, savedElements: 0 })) }));
			return { saved: sum(saved), rest: { ...job, backbones: rest } };
		};
		const [traced, kept] = [split(jobWork(jobChains[name]())), split(namedJob(name))];
		expect(traced.rest).toEqual(kept.rest);
		expect(traced.saved / kept.saved).toBeGreaterThan(0.9);
		expect(traced.saved / kept.saved).toBeLessThan(1.1);
	});

	it('train the copy of a ControlNet, pass gradients through the locked decoder, and run the locked encoder after both others', () => {
		const { backbones, frozen } = namedJob('controlnet');
		const { layers } = backbones[0]!;
		const locked = layers.filter((l) => l.name.startsWith('unet.'));
		expect(locked.length).toBeGreaterThan(20);
		for (const layer of locked) {
			expect([layer.trainedParameters, layer.backwardWeight.kernels], layer.name).toEqual([0, 0]);
			// A sum hands its gradient on as it is.
			if (!layer.name.includes('residual')) expect(layer.backwardInput.kernels, layer.name).toBeGreaterThan(0);
		}
		expect(frozen.at(-1)).toMatchObject({ name: 'unet_encoder', after: ['vae', 'text_encoder'] });
	});

	it('know the twelve skips of a U-Net of four levels', () => {
		const { layers, skips } = namedJob('sd21').backbones[0]!;
		expect(skips.map(({ from }) => layers[from]!.name)).toEqual([
			'conv_in',
			'down_blocks.0.attentions.0',
			'down_blocks.0.attentions.1',
			'down_blocks.0.downsamplers.0',
			'down_blocks.1.attentions.0',
			'down_blocks.1.attentions.1',
			'down_blocks.1.downsamplers.0',
			'down_blocks.2.attentions.0',
			'down_blocks.2.attentions.1',
			'down_blocks.2.downsamplers.0',
			'down_blocks.3.resnets.0',
			'down_blocks.3.resnets.1',
		]);
		expect(skips[0]).toEqual({ from: 1, to: layers.findIndex((l) => l.name === 'up_blocks.3.resnets.2'), elements: 320 * 64 * 64 });
	});
});

describe('tables of work', () => {
	it('are read as they were written', () => {
		for (const name of names) expect(formatWork(readWork(namedJobs[name].table))).toBe(namedJobs[name].table);
	});

	it('refuse lines of another form', () => {
		expect(() => readWork('job a\nlayer l 1,2 3')).toThrow(/is no line/);
		expect(() => readWork('job a\nbackbone b\nlayer l 1,2 3')).toThrow(/is no line/);
		expect(() => readWork('jobs a')).toThrow(/is no line/);
	});
});

describe('profileOf', () => {
	const a100 = acceleratorByName('A100-80');

	it('gives profiles that may be read', () => {
		for (const name of names) {
			const profile = profileOf(namedJob(name), a100, { selfConditioning: 0.5 });
			expect(readProfile(JSON.parse(JSON.stringify(profile)))).toEqual(profile);
		}
	});

	it('holds bytes by precision', () => {
		const job = namedJob('sd21');
		const [layer] = job.backbones[0]!.layers.slice(2);
		const at = (precision: 'mixed' | 'float32') => profileOf(job, a100, { precision, batchSizes: [4] }).backbones[0]!.layers[2]!;
		const { trainedParameters: p } = layer!;
		expect(at('mixed')).toMatchObject({ paramBytes: 2 * p, gradBytes: 2 * p, optimizerBytes: 12 * p, cutBytes: 2 * layer!.cutElements });
		expect(at('float32')).toMatchObject({
			paramBytes: 4 * p,
			gradBytes: 4 * p,
			optimizerBytes: 8 * p,
			activationBytes: 4 * layer!.savedElements,
		});
		expect(at('float32').forwardMs[0]).toBeGreaterThan(1.5 * at('mixed').forwardMs[0]!);
	});

	it('gives frozen parts the share of the trained ones that is known of Stable Diffusion 2.1 and ControlNet', () => {
		const share = (name: JobName, batch: number) => {
			const { backbones, frozen } = profileOf(namedJob(name), a100, { batchSizes: [batch] });
			const trained = backbones.flatMap((b) => b.layers.map((l) => l.forwardMs[0]! + l.backwardInputMs[0]! + l.backwardWeightMs[0]!));
			return sum(frozen.flatMap((f) => f.layers.map((l) => l.forwardMs[0]!))) / sum(trained);
		};
		expect(share('sd21', 8)).toBeGreaterThan(0.35);
		expect(share('sd21', 64)).toBeLessThan(0.65);
		expect(share('controlnet', 8)).toBeGreaterThan(0.6);
		expect(share('controlnet', 64)).toBeLessThan(0.95);
		expect(share('controlnet', 64)).toBeGreaterThan(share('controlnet', 8));
	});
});

describe('clusterOf', () => {
	it('gives clusters that may be read', () => {
		const cluster = clusterOf(acceleratorByName('A100-80'), 8, 8, 400);
		expect(readCluster(JSON.parse(JSON.stringify(cluster)))).toEqual(cluster);
		expect(cluster).toMatchObject({ hosts: 8, devicesPerHost: 8, memoryBytes: 80e9 });
		// 600 GB/s both ways together, 400 Gbit/s each way; four fifths of them.
		expect(cluster.intra.bytesPerMs).toBeCloseTo(2.4e8, 0);
		expect(cluster.inter.bytesPerMs).toBeCloseTo(4e7, 0);
	});
});
