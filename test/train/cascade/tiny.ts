/** @file The smallest cascade worth training: emoji at 8 and at 16 pixels. */
import type { CascadeConfig } from '../../../src/train/cascade/config.ts';
import { readCascadeConfig } from '../../../src/train/cascade/config.ts';

/** A U-Net of pixels. */
export const unet = (sample_size: number, more: Record<string, unknown> = {}) => ({
	type: 'UNet2DModel',
	sample_size,
	in_channels: 3,
	out_channels: 3,
	block_out_channels: [8, 8],
	layers_per_block: 1,
	norm_num_groups: 4,
	down_block_types: ['DownBlock2D', 'DownBlock2D'],
	up_block_types: ['UpBlock2D', 'UpBlock2D'],
	add_attention: false,
	...more,
});

/** One that attends to the states of `assets/emoji-clip`. */
export const captioned = (sample_size: number) => {
	const { add_attention: _, ...own } = unet(sample_size, { type: 'UNet2DConditionModel', cross_attention_dim: 96, attention_head_dim: 2 });
	return { ...own, down_block_types: ['CrossAttnDownBlock2D', 'DownBlock2D'], up_block_types: ['UpBlock2D', 'CrossAttnUpBlock2D'] };
};

/** Tables of a config, over those of the tiny cascade. */
export type Over = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

/** The config of a run in `output_dir`. */
export function tinyCascade(output_dir: string, over: Over = {}): CascadeConfig {
	const { super_resolution, train, parallel, sample, model, ...others } = over;
	return readCascadeConfig({
		output_dir,
		seed: 5,
		model: model ?? unet(8),
		scheduler: { type: 'DDPMScheduler' },
		data: { type: 'emoji', size: 16, categories: ['Food & Drink'] },
		train: { max_steps: 3, batch_size: 4, gradient_accumulation_steps: 2, ema_decay: 0.9, ...train },
		optimizer: { lr: 1e-3 },
		parallel: { pipeline_stages: 2, ...parallel },
		sample: { enabled: false, steps: 2, per_label: 1, ...sample },
		log: { tensorboard: false },
		super_resolution: { model: unet(16), optimizer: { lr: 2e-3 }, ...super_resolution },
		...others,
	});
}
