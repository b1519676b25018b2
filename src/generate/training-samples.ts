/** @file Pictures drawn during training: every class or caption, a few of each, always from the same noise. */
import { deviceCount } from '../train/plan.ts';
import type { SampleDrawer, SampleSetup } from '../train/trainer.ts';
import { createGenerator, type DenoiseOptions } from './denoise.ts';
import { pictureOf } from './pictures.ts';

/** The drawer that `trainModel` takes as `samples`: one column per label or caption, `per_label` rows. */
export async function trainingSamples({ denoiser, scheduler, config, classes, frozen }: SampleSetup): Promise<SampleDrawer> {
	const { labels: wanted, prompts, per_label: perLabel, steps, guidance_scale: guidanceScale, seed } = config.sample;
	const known = Array.from({ length: Math.min(classes?.length ?? 8, 100) }, (_, i) => i);
	const columns = frozen.text ? prompts.map((_, i) => i) : wanted.length > 0 ? wanted : known;
	const labels = Array.from({ length: perLabel }, () => columns).flat();
	const generator = await createGenerator(denoiser, {
		devices: deviceCount(config),
		rows: labels.length,
		threads: config.parallel.threads_per_device,
	});
	const [channels, height, width] = frozen.vae?.pictures ?? (denoiser.chain.inputs[denoiser.sample]!.shape as [number, number, number]);
	const conditioning = async (): Promise<DenoiseOptions['conditioning']> => {
		if (!frozen.text) return undefined;
		const captions = labels.map((i) => prompts[i]!);
		return { wanted: await frozen.text.encode(captions), none: await frozen.text.encode(captions.map(() => '')) };
	};
	return {
		async draw(weights) {
			await generator.setWeights(weights);
			const condition = await conditioning();
			const samples = await generator.sample({
				labels,
				scheduler,
				steps,
				guidanceScale,
				seed,
				...(condition ? { conditioning: condition } : {}),
			});
			const images = frozen.vae ? await frozen.vae.decode(samples) : samples;
			return pictureOf(images, [labels.length, channels, height, width], columns.length);
		},
		close: () => generator.close(),
	};
}
