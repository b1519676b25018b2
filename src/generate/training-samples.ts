/** @file Pictures drawn during training: every class, a few of each, always from the same noise. */
import type { Denoiser } from '../models/index.ts';
import type { TrainConfig } from '../train/config.ts';
import { deviceCount } from '../train/plan.ts';
import type { SampleDrawer } from '../train/trainer.ts';
import { createGenerator } from './denoise.ts';
import { pictureOf } from './pictures.ts';

/** The drawer that `trainModel` takes as `samples`: one row per round, one column per label. */
export async function trainingSamples(
	denoiser: Denoiser,
	scheduler: Readonly<Record<string, unknown>>,
	config: TrainConfig,
	classes: readonly string[] | undefined,
): Promise<SampleDrawer> {
	const { labels: wanted, per_label: perLabel, steps, guidance_scale: guidanceScale, seed } = config.sample;
	const columns = wanted.length > 0 ? wanted : Array.from({ length: Math.min(classes?.length ?? 8, 100) }, (_, i) => i);
	const labels = Array.from({ length: perLabel }, () => columns).flat();
	const devices = deviceCount(config);
	const generator = await createGenerator(denoiser, { devices, rows: labels.length, threads: config.parallel.threads_per_device });
	const [channels, height, width] = denoiser.chain.inputs[denoiser.sample]!.shape as [number, number, number];
	return {
		async draw(weights) {
			await generator.setWeights(weights);
			const images = await generator.sample({ labels, scheduler, steps, guidanceScale, seed });
			return pictureOf(images, [labels.length, channels, height, width], columns.length);
		},
		close: () => generator.close(),
	};
}
