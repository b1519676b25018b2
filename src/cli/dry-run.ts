/** @file What a training run would do: its whole config, and how its layers lie over the devices. */
import { join } from 'node:path';
import { stringify } from 'smol-toml';
import { type Shape, sizeOf } from '../core/tensor.ts';
import { trainingChain } from '../diffusion/objective.ts';
import { samplerConfig } from '../diffusion/samplers/index.ts';
import { readJson } from '../io/json-file.ts';
import { latentFactor, readAutoencoderKLConfig } from '../models/autoencoder-kl.ts';
import type { Denoiser } from '../models/index.ts';
import { kindName, stepText } from '../plan/expected.ts';
import { placeSchedule } from '../plan/schedules/index.ts';
import { formatScheduleGrid } from '../plan/schedules/text.ts';
import { formatProgram } from '../program/text.ts';
import type { SizedParts } from '../train/buckets.ts';
import type { TrainConfig } from '../train/config.ts';
import { completedConfig } from '../train/controlnet/config.ts';
import { controlJob } from '../train/controlnet/job.ts';
import type { PixelSize } from '../train/data/types.ts';
import { planFilledRun } from '../train/filled/run-parts.ts';
import { packagedPath } from '../train/frozen.ts';
import { openTextEncoder } from '../train/frozen-parts.ts';
import { placeOptionsOf, stageCount } from '../train/layout.ts';
import { openTrainedModel, type TrainedModel } from '../train/model.ts';
import { planTraining, sweptSchedule } from '../train/plan.ts';
import { peaksOf } from '../train/planned.ts';
import { selfConditioningOf } from '../train/self-conditioning.ts';
import type { Console } from './console.ts';
import { formatCount } from './format.ts';
import { bubbleText, peakLine, planLines } from './progress.ts';

/**
 * Prints the resolved config as TOML, the stages, the memory and the schedule; as JSON, one document with the programs of all devices. The plan is made as a
 * run would make it; for images of several sizes it is that of the first.
 * @throws DiffusionPipeError of kind 'config' when the config could not be trained
 */
export async function dryRun(given: TrainConfig, console: Console): Promise<void> {
	const config = await completedConfig(given);
	const { type: schedulerClass, ...schedulerOptions } = config.scheduler;
	const model = await openTrainedModel(config);
	try {
		samplerConfig(schedulerClass, schedulerOptions);
		const { compiled, stages, cuts, parameters: all, plan, selfConditioning } = await planned(config, model, console);
		const { program } = compiled;
		const devices = program.devices.length;
		const memory = peaksOf(program);
		const parameters = elements(all);
		const trained = elements(all.filter((p) => p.trained));
		const swept = selfConditioning && sweptSchedule(config, plan);
		const predicted = plan && { iterationMs: plan.iterationMs, bubbleRatio: plan.bubbleRatio };
		const kinds = plan?.selfConditioning && { selfConditioning: plan.selfConditioning };
		const document = {
			devices,
			parameters,
			cuts,
			stages,
			...(predicted ? { predicted: { ...predicted, ...kinds } } : {}),
			memory,
			program: formatProgram(program),
		};
		console.json({ config, plan: document });
		const { pipeline_schedule } = config.parallel;
		const { rows, stages: places } = placeSchedule(pipeline_schedule, placeOptionsOf(config));
		console.print(
			stringify(config),
			`${formatCount(parameters)} parameters${trained < parameters ? `, ${formatCount(trained)} of them trained` : ''}`,
			...planLines({ devices, stages }),
			...(plan ? [`${stepText(plan)} predicted, bubbles ${bubbleText(plan.bubbleRatio)}`] : []),
			peakLine(memory),
			`schedule ${pipeline_schedule} (stage, Forward/Backward, micro-batch):`,
			formatScheduleGrid(rows, places).trimEnd(),
			...(swept
				? [
						`schedule ${kindName(true)}, which ${selfConditioning.probability} of the steps have (stages 0 to ${cuts.length} are the sweep):`,
						formatScheduleGrid(swept.rows, swept.stages).trimEnd(),
					]
				: []),
		);
	} finally {
		await model.close();
	}
}

/** The plan of a filled run, or of one whose frozen parts run beside it. */
async function planned(config: TrainConfig, model: TrainedModel, console: Console) {
	const { chain, denoiser, control } = model.locked ? await controlJob(config, model) : await plainJob(config, model, console);
	const selfConditioning = selfConditioningOf(config, denoiser);
	if (config.frozen.cache === 'fill' && (config.vae.path !== '' || config.text_encoder.path !== '')) {
		console.note('measuring the layers, frozen ones among them, and filling bubbles');
		const several = Array.isArray(config.data.buckets) && config.data.buckets.length > 0;
		const size = { chain, control, pixels: await pixelsOf(config, denoiser) };
		const { plan, profile, compiled } = await planFilledRun(config, model.locked, size, { several, selfConditioning });
		const { layers } = profile.backbones[0]!;
		const stages = plan.stages.map(({ layers: [from, to], forwardMs, backwardMs }) => ({
			layers: layers.slice(from, to).map(({ name }) => name),
			ms: forwardMs + backwardMs,
		}));
		const cuts = plan.stages.slice(1).map((stage) => stage.layers[0]);
		const parameters = compiled.banks.flatMap((bank) => bank.parameters);
		return { compiled, stages, cuts, parameters, plan, selfConditioning };
	}
	if (stageCount(config.parallel) > 1) console.note('measuring the layers to plan the stages');
	// AdamW keeps two moments per parameter, and the moving average counts as a third.
	const run = await planTraining(config, chain, config.train.ema_decay > 0 ? 3 : 2, { selfConditioning });
	return { ...run, parameters: [...run.trace.parameters.values()], plan: run.planned?.plan, selfConditioning };
}

/** What is trained of a model that is no ControlNet. */
async function plainJob(
	config: TrainConfig,
	model: TrainedModel,
	console: Console,
): Promise<Pick<SizedParts, 'chain' | 'control'> & { readonly denoiser: Denoiser }> {
	const text = await openTextEncoder(config, (event) => event.kind === 'note' && console.note(event.text));
	await text?.close();
	const { denoiser } = model.build(text ? { tokens: text.states[0] } : {});
	const chain = trainingChain(denoiser.chain, { ...denoiser, globalBatch: config.train.batch_size });
	return { denoiser, control: undefined, chain };
}

/** Pictures that the model's samples are made from. */
async function pixelsOf({ vae }: TrainConfig, { chain, sample }: Denoiser): Promise<PixelSize> {
	const [, height, width] = chain.inputs[sample]!.shape as [number, number, number];
	if (vae.path === '') return { height, width };
	const path = join(await packagedPath(vae.path, 'vae.path'), 'config.json');
	const factor = latentFactor(readAutoencoderKLConfig((await readJson(path)) as Record<string, unknown>, path));
	return { height: factor * height, width: factor * width };
}

function elements(parameters: readonly { readonly shape: Shape }[]): number {
	return parameters.reduce((sum, { shape }) => sum + sizeOf(shape), 0);
}
