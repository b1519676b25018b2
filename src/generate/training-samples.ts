/** @file Pictures drawn during training: every class or caption, a few of each, always from the same noise. */
import { sizeOf } from '../core/tensor.ts';
import { locked } from '../models/locked-unet.ts';
import { deviceCount } from '../train/plan.ts';
import type { SampleDrawer, SampleSetup } from '../train/trainer.ts';
import { controlImageInput, controlledDenoiser, controlPrefix, controlScaleInput } from './control.ts';
import { createGenerator, type DenoiseOptions } from './denoise.ts';
import { pictureOf } from './pictures.ts';

/**
 * The drawer that `trainModel` takes as `samples`: one column per label or caption, `per_label` rows. Of a ControlNet the conditioning pictures stand above
 * their columns.
 */
export async function trainingSamples(setup: SampleSetup): Promise<SampleDrawer> {
	const { scheduler, config, classes, frozen, control } = setup;
	const { labels: wanted, per_label: perLabel, steps, guidance_scale: guidanceScale, seed } = config.sample;
	const prompts = control?.captions ?? config.sample.prompts;
	const known = Array.from({ length: Math.min(classes?.length ?? 8, 100) }, (_, i) => i);
	const columns = frozen.text ? prompts.map((_, i) => i) : wanted.length > 0 ? wanted : known;
	const labels = Array.from({ length: perLabel }, () => columns).flat();
	const { denoiser, promptOnly, own } = control
		? controlled(setup, control.unet)
		: { denoiser: setup.denoiser, promptOnly: false, own: same };
	const generator = await createGenerator(denoiser, {
		devices: deviceCount(config),
		rows: labels.length,
		threads: config.parallel.threads_per_device,
	});
	const [channels, height, width] = frozen.vae?.pictures ?? (denoiser.chain.inputs[denoiser.sample]!.shape as [number, number, number]);
	const above = control ? control.pictures.map((v) => 2 * v - 1) : new Float32Array();
	const conditioning = async (): Promise<DenoiseOptions['conditioning']> => {
		if (!frozen.text) return undefined;
		const captions = labels.map((i) => prompts[i]!);
		const texts = { wanted: await frozen.text.encode(captions), none: await frozen.text.encode(captions.map(() => '')) };
		if (!control) return texts;
		const picture = sizeOf(denoiser.chain.inputs[controlImageInput]!.shape);
		const pictures = new Float32Array(labels.length * picture);
		labels.forEach((column, i) => {
			pictures.set(control.pictures.subarray(column * picture, (column + 1) * picture), i * picture);
		});
		const scales = (scale: number) => new Float32Array(labels.length).fill(scale);
		return {
			wanted: { ...texts.wanted, [controlImageInput]: pictures, [controlScaleInput]: scales(1) },
			none: { ...texts.none, [controlImageInput]: pictures, [controlScaleInput]: scales(promptOnly ? 0 : 1) },
		};
	};
	return {
		async draw(weights) {
			await generator.setWeights((name) => weights(own(name)));
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
			const all = new Float32Array(above.length + images.length);
			all.set(above);
			all.set(images, above.length);
			return pictureOf(all, [all.length / (channels * height * width), channels, height, width], columns.length);
		},
		close: () => generator.close(),
	};
}

const same = (name: string): string => name;

/** What `sample` draws with, too: ControlNet and U-Net with a scale between them; and by its names of parameters those of the training. */
function controlled({ denoiser, config }: SampleSetup, unet: Readonly<Record<string, unknown>>) {
	const [, height, width] = denoiser.chain.inputs[denoiser.sample]!.shape as [number, number, number];
	const [tokens] = denoiser.chain.inputs.encoder_hidden_states!.shape as [number, number];
	const drawn = controlledDenoiser(
		{ className: String(unet._class_name), config: unet, place: 'model.pretrained' },
		{ className: config.model.type, config: denoiser.config, place: 'model' },
		{ height, width, tokens },
	);
	return { ...drawn, own: (name: string) => (name.startsWith(controlPrefix) ? name.slice(controlPrefix.length) : `${locked}${name}`) };
}
