/** @file The losses of both models of a cascade on held-out examples: each on the images of its size, the large ones told the small ones as they are. */

import { lowResolution } from '../../models/concatenated.ts';
import { type Evaluated, openEvaluation } from '../evaluation.ts';
import type { FrozenText } from '../frozen.ts';
import { loadHeldOut } from '../held-out.ts';
import { downsampled, upsampled } from '../resize.ts';
import { backboneNames, type PerBackbone, perBackbone } from './config.ts';
import type { CascadeModels } from './models.ts';
import type { CascadeSession } from './session.ts';

export interface CascadeEvaluation {
	/** Measures with the present weights. Call it between steps only. */
	run(): Promise<PerBackbone<Evaluated>>;
	close(): Promise<void>;
}

/** Loads the held-out examples that the config sets aside; threads start with the first run. `average`: the moment with the moving average. */
export async function openCascadeEvaluation(
	{ parts, factor }: CascadeModels,
	{ plan, parameters }: Pick<CascadeSession, 'plan' | 'parameters'>,
	text: FrozenText | undefined,
	average: number | undefined,
): Promise<CascadeEvaluation> {
	const { denoiser, config } = parts.super_resolution;
	const large = await loadHeldOut(config, denoiser, { vae: undefined, text });
	const [, height, width] = denoiser.chain.inputs[denoiser.sample]!.shape as [number, number, number];
	const both = large.map((example) => {
		const small = downsampled(example.sample, height, width, factor);
		const told = upsampled(small, height / factor, width / factor, factor);
		return {
			base: { ...example, sample: small },
			super_resolution: { ...example, conditioning: { ...example.conditioning, [lowResolution]: told } },
		};
	});
	const each = perBackbone((name) =>
		openEvaluation({
			...parts[name],
			parameters: parameters[name],
			cuts: plan.cuts[name],
			examples: both.map((example) => example[name]),
			role: config.eval.ema ? { moment: average! } : 'parameter',
		}),
	);
	return {
		// One after the other: both take the run's devices.
		run: async () => ({ base: await each.base.run(), super_resolution: await each.super_resolution.run() }),
		async close() {
			for (const name of backboneNames) await each[name].close();
		},
	};
}
