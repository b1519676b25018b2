// Trains a cascade on emoji: one small model draws them at 16 x 16, another enlarges them to 64 x 64. Both are trained at the same time on the same two
// devices, one pipeline in each direction. Then it draws with both.
import { cascadeSamples, readCascadeConfig, sampleCascade, trainCascade } from 'diffusionpipe';

const [output = 'runs/cascade', steps = '2000'] = process.argv.slice(2);

/** A U-Net for pictures of `sample_size`; emoji have eight categories, and one label more means none. */
const unet = (sample_size, block_out_channels) => ({
	type: 'UNet2DModel',
	sample_size,
	in_channels: 3,
	out_channels: 3,
	block_out_channels,
	layers_per_block: 1,
	norm_num_groups: 8,
	down_block_types: block_out_channels.map(() => 'DownBlock2D'),
	up_block_types: block_out_channels.map(() => 'UpBlock2D'),
	add_attention: false,
	num_class_embeds: 9,
});

const config = readCascadeConfig({
	output_dir: output,
	model: unet(16, [32, 64]),
	scheduler: { type: 'FlowMatchEulerDiscreteScheduler' },
	data: { type: 'emoji', size: 64 },
	train: { max_steps: Number(steps), batch_size: 8, gradient_accumulation_steps: 4, ema_decay: 0.995 },
	optimizer: { lr: 1e-3, warmup_steps: 50 },
	parallel: { pipeline_stages: 2 },
	sample: { labels: [0, 1, 2, 3], per_label: 2, steps: 20 },
	// The model that enlarges takes the small picture, enlarged, as three more channels; what it has not of its own it has as the base.
	super_resolution: { model: unet(64, [8, 16, 32]), optimizer: { lr: 2e-3, warmup_steps: 50 }, condition_noise: 0.1 },
});

const result = await trainCascade(config, {
	samples: cascadeSamples,
	onEvent: (event) => {
		if (event.kind === 'plan') for (const stage of event.stages) console.log(`stage: ${stage.layers[0]} ... (${stage.ms.toFixed(1)} ms)`);
		if (event.kind === 'step' && (event.step % 50 === 0 || event.step === event.maxSteps)) {
			const { base, super_resolution } = event.losses;
			console.log(`step ${event.step}: base ${base.toFixed(4)}, super-resolution ${super_resolution.toFixed(4)}`);
		}
	},
});
console.log(`trained ${result.step} steps in ${result.seconds.toFixed(0)} s; samples in ${result.samples.at(-1)}`);

const { small, large } = await sampleCascade(output, { labels: [0, 1], steps: 10 });
console.log(`drew ${small.shape.join(' x ')} and ${large.shape.join(' x ')}`);
