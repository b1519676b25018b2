// Trains a small class-conditional model on a folder of class folders, on two devices, and draws samples from it.
import { readTrainConfig, sampleToFile, trainingSamples, trainModel } from 'diffusionpipe';

const [folder = 'images', output = 'runs/folder', steps = '500'] = process.argv.slice(2);

const config = readTrainConfig({
	output_dir: output,
	model: {
		type: 'DiTTransformer2DModel',
		num_attention_heads: 4,
		attention_head_dim: 24,
		num_layers: 4,
		patch_size: 4,
		sample_size: 32,
		in_channels: 3,
		out_channels: 3,
		num_embeds_ada_norm: 10,
	},
	scheduler: { type: 'FlowMatchEulerDiscreteScheduler' },
	data: { type: 'folder', path: folder, height: 32, width: 32, channels: 3 },
	train: { max_steps: Number(steps), batch_size: 16, gradient_accumulation_steps: 4, ema_decay: 0.995, flip: true },
	optimizer: { lr: 1e-3, warmup_steps: 20, lr_scheduler: 'cosine' },
	parallel: { pipeline_stages: 2 },
	sample: { guidance_scale: 2, steps: 20 },
});

const result = await trainModel(config, {
	samples: trainingSamples,
	onEvent: (event) => {
		if (event.kind === 'plan')
			for (const stage of event.stages) console.log(`stage: ${stage.layers.join(', ')} (${stage.ms.toFixed(1)} ms)`);
		if (event.kind === 'step') console.log(`step ${event.step}: loss ${event.loss.toFixed(4)}`);
	},
});
console.log(`trained ${result.step} steps at ${result.imagesPerSecond.toFixed(0)} images/s; samples in ${result.samples.at(-1)}`);

const { output: picture } = await sampleToFile({ folder: output, labels: [0, 1], perLabel: 2, steps: 10 });
console.log(`more samples in ${picture}`);
