/** @file What pipelines refuse, each before any model runs, saying what to do. */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { DiffusionPipeError, type ErrorKind } from '../../src/core/errors.ts';
import { createPipeline, type GenerateOptions } from '../../src/generate/index.ts';
import type { Recording } from '../helpers/recorded-forward.ts';
import { type RecipeName, tinyPipelines } from '../helpers/tiny-pipelines.ts';

const recording = vi.hoisted((): Recording => ({ runs: [], open: 0, mostOpen: 0 }));
vi.mock('../../src/engine/local/forward.ts', async (original) => {
	const { recordForward } = await import('../helpers/recorded-forward.ts');
	return recordForward(await original<typeof import('../../src/engine/local/forward.ts')>(), recording);
});

let root = '';
let folder: ReturnType<typeof tinyPipelines>;
beforeAll(() => {
	root = mkdtempSync(join(tmpdir(), 'refusals-'));
	folder = tinyPipelines(root);
});
afterAll(() => {
	rmSync(root, { recursive: true, force: true });
	expect(recording.mostOpen).toBe(0);
});

/** A copy of a folder with one of its JSON files changed. */
async function changed(name: RecipeName, file: string, change: (json: Record<string, unknown>) => void): Promise<string> {
	const copy = mkdtempSync(join(root, 'copy-'));
	cpSync(await folder(name), copy, { recursive: true });
	const path = join(copy, file);
	const json = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;
	change(json);
	writeFileSync(path, JSON.stringify(json));
	return copy;
}

async function refusal(path: string, options: GenerateOptions, kind: ErrorKind): Promise<string> {
	const work = async () => {
		const pipeline = await createPipeline(path);
		try {
			return await pipeline.generate({ prompts: ['ab'], height: 16, width: 16, steps: 2, ...options });
		} finally {
			await pipeline.close();
		}
	};
	const error = await work().catch((e: unknown) => e);
	expect(error).toBeInstanceOf(DiffusionPipeError);
	expect((error as DiffusionPipeError).kind).toBe(kind);
	return (error as DiffusionPipeError).message;
}

describe('folders', () => {
	it('of other classes, naming those that are supported', async () => {
		const other = await changed('sd', 'model_index.json', (index) => {
			index._class_name = 'StableDiffusionUpscalePipeline';
		});
		expect(await refusal(other, {}, 'input')).toMatch(
			/model_index\.json: pipelines of class StableDiffusionUpscalePipeline are not supported[\s\S]*expected: .*FluxPipeline/,
		);
	});

	it('without a part, by the index or on the disk', async () => {
		const unlisted = await changed('sdxl', 'model_index.json', (index) => {
			index.text_encoder_2 = [null, null];
		});
		expect(await refusal(unlisted, {}, 'input')).toMatch(/StableDiffusionXLPipeline has no text_encoder_2[\s\S]*found: .*text_encoder, /);
		const gone = await changed('sd3', 'model_index.json', () => {});
		rmSync(join(gone, 'tokenizer_3'), { recursive: true });
		expect(await refusal(gone, {}, 'input')).toMatch(/tokenizer_3: cannot open the tokenizer folder/);
		rmSync(join(gone, 'vae'), { recursive: true });
		mkdirSync(join(gone, 'tokenizer_3'));
		cpSync(join(await folder('sd3'), 'tokenizer_3'), join(gone, 'tokenizer_3'), { recursive: true });
		expect(await refusal(gone, {}, 'input')).toMatch(/vae: cannot open the model folder/);
		const unscheduled = await changed('sd', 'model_index.json', (index) => {
			index.scheduler = [null, null];
		});
		expect(await refusal(unscheduled, {}, 'input')).toMatch(/has no scheduler/);
	});

	it('that are not there, or hold nothing', async () => {
		expect(await refusal(join(root, 'nothing-here'), {}, 'input')).toMatch(/there is no such folder[\s\S]*model_index\.json/);
		expect(await refusal(mkdtempSync(join(root, 'empty-')), {}, 'input')).toMatch(/holds nothing to sample from/);
	});

	it('whose weights or parts are from different models', async () => {
		const wider = await changed('sd', 'unet/config.json', (config) => {
			config.block_out_channels = [16, 48];
		});
		expect(await refusal(wider, {}, 'input')).toMatch(/weights do not fit the config: down_blocks[\s\S]* more of \d+[\s\S]*expected: \[48/);
		const other = await changed('sd', 'unet/config.json', (config) => {
			config.cross_attention_dim = 40;
		});
		expect(await refusal(other, {}, 'config')).toMatch(
			/takes another encoder_hidden_states[\s\S]*expected: \[12, 24\]\s*found: \[12, 40\]/,
		);
		const painting = await changed('sd', 'unet/config.json', (config) => {
			config.in_channels = 9;
		});
		expect(await refusal(painting, {}, 'config')).toMatch(
			/does not take the latents[\s\S]*4 channels[\s\S]*in_channels 9[\s\S]*inpainting/,
		);
		const sized = await changed('sd', 'unet/config.json', (config) => {
			Object.assign(config, { addition_embed_type: 'text_time', addition_time_embed_dim: 8, projection_class_embeddings_input_dim: 68 });
		});
		expect(await refusal(sized, {}, 'config')).toMatch(/another text_embeds than StableDiffusionPipeline gives[\s\S]*no text_embeds/);
	});

	it('whose scheduler is not supported or for other models, naming one that is', async () => {
		const lms = await changed('sd', 'scheduler/scheduler_config.json', (config) => {
			config._class_name = 'LMSDiscreteScheduler';
		});
		expect(await refusal(lms, {}, 'config')).toMatch(
			/scheduler_config\.json: the scheduler is not supported[\s\S]*"LMSDiscreteScheduler"[\s\S]*--scheduler DPMSolverMultistepScheduler/,
		);
		const heun = await changed('flux', 'scheduler/scheduler_config.json', (config) => {
			config._class_name = 'FlowMatchHeunDiscreteScheduler';
		});
		expect(await refusal(heun, {}, 'config')).toMatch(/--scheduler FlowMatchEulerDiscreteScheduler/);
		const sd = await folder('sd');
		expect(await refusal(sd, { scheduler: 'DDIMSheduler' }, 'config')).toMatch(/did you mean DDIMScheduler\?/);
		expect(await refusal(sd, { scheduler: 'FlowMatchEulerDiscreteScheduler' }, 'config')).toMatch(
			/for models of another kind[\s\S]*epsilon/,
		);
		expect(await refusal(await folder('sd3'), { scheduler: 'EulerDiscreteScheduler' }, 'config')).toMatch(/one for flow_prediction/);
		// What is trained here from captions may be a flow, as its scheduler says.
		const flow = await changed('sd', 'scheduler/scheduler_config.json', (config) => {
			for (const key of Object.keys(config)) delete config[key];
			config._class_name = 'FlowMatchEulerDiscreteScheduler';
		});
		expect(await refusal(flow, { scheduler: 'DDIMScheduler' }, 'config')).toMatch(/one for flow_prediction/);
	});
});

describe('options', () => {
	it('of the other kind of model, or none', async () => {
		const sd = await folder('sd');
		expect(await refusal(sd, { labels: [1] }, 'usage')).toMatch(/the model takes prompts, and has no use for labels[\s\S]*--prompt/);
		expect(await refusal(sd, { prompts: [] }, 'usage')).toMatch(/there is no prompt/);
	});

	it('of sizes that do not divide, with one that does', async () => {
		expect(await refusal(await folder('sd'), { height: 17 }, 'usage')).toMatch(
			/height: the size does not do[\s\S]*multiple of 2[\s\S]*found: 17[\s\S]*--height 18/,
		);
		expect(await refusal(await folder('sd3'), { width: 18 }, 'usage')).toMatch(/width: [\s\S]*multiple of 4[\s\S]*--width 20/);
		expect(await refusal(await folder('flux'), { width: 0 }, 'usage')).toMatch(/--width 4/);
		const unsized = await changed('sd', 'unet/config.json', (config) => {
			delete config.sample_size;
		});
		const pipeline = await createPipeline(unsized);
		await expect(pipeline.generate({ prompts: ['ab'] })).rejects.toThrow(/the size is not given/);
		await pipeline.close();
	});

	it('of numbers and files that mean nothing', async () => {
		const sd = await folder('sd');
		expect(await refusal(sd, { steps: 0 }, 'usage')).toMatch(/steps/);
		expect(await refusal(sd, { guidanceScale: Number.NaN }, 'usage')).toMatch(/guidanceScale/);
		expect(await refusal(sd, { seed: 1.5 }, 'usage')).toMatch(/seed/);
		expect(await refusal(sd, { strength: 0.5 }, 'usage')).toMatch(/strength: means nothing without image/);
		expect(await refusal(sd, { image: join(root, 'none.png') }, 'input')).toMatch(/none\.png: cannot read the image/);
		const text = join(root, 'text.png');
		writeFileSync(text, 'not a picture');
		expect(await refusal(sd, { image: text, strength: 0.5 }, 'input')).toMatch(/text\.png: cannot read the image/);
		expect(await refusal(sd, { image: text, strength: 1.2 }, 'usage')).toMatch(/strength[\s\S]*0 to 1/);
		await expect(createPipeline(sd, { devices: 0 })).rejects.toThrow(/devices/);
	});

	it('of guidance that is not there', async () => {
		expect(await refusal(await folder('sd'), { negativePrompt: 'x', guidanceScale: 1 }, 'usage')).toMatch(/no effect[\s\S]*above 1/);
		expect(await refusal(await folder('flux'), { negativePrompt: 'x' }, 'usage')).toMatch(/no effect[\s\S]*FluxPipeline/);
	});

	it('after the run was stopped', async () => {
		const controller = new AbortController();
		controller.abort();
		expect(await refusal(await folder('sd'), { signal: controller.signal }, 'engine')).toMatch(/sampling was stopped/);
	});
});
