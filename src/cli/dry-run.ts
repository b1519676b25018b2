/** @file What a training run would do: its whole config, and how its layers lie over the devices. */
import { stringify } from 'smol-toml';
import { type Shape, sizeOf } from '../core/tensor.ts';
import { trainingChain } from '../diffusion/objective.ts';
import { samplerConfig } from '../diffusion/samplers/index.ts';
import type { Chain } from '../nn/chain.ts';
import { placeSchedule } from '../plan/schedules/index.ts';
import { formatScheduleGrid } from '../plan/schedules/text.ts';
import { formatProgram } from '../program/text.ts';
import type { TrainConfig } from '../train/config.ts';
import { completedConfig } from '../train/controlnet/config.ts';
import { controlJob } from '../train/controlnet/job.ts';
import { placeOptionsOf, stageCount } from '../train/layout.ts';
import { openTrainedModel, type TrainedModel } from '../train/model.ts';
import { planTraining } from '../train/plan.ts';
import type { Console } from './console.ts';
import { formatCount } from './format.ts';
import { planLines } from './progress.ts';

/**
 * Prints the resolved config as TOML, the stages and the schedule; as JSON, one document with the programs of all devices.
 * @throws DiffusionPipeError of kind 'config' when the config could not be trained
 */
export async function dryRun(given: TrainConfig, console: Console): Promise<void> {
	const config = await completedConfig(given);
	const { type: schedulerClass, ...schedulerOptions } = config.scheduler;
	const model = await openTrainedModel(config);
	await model.close();
	samplerConfig(schedulerClass, schedulerOptions);
	const { chain } = model.locked ? await controlJob(config, model) : plainChain(config, model);
	if (stageCount(config.parallel) > 1) console.note('measuring the layers to plan the stages');
	// AdamW keeps two moments per parameter, and the moving average counts as a third.
	const { trace, compiled, stages, cuts } = await planTraining(config, chain, config.train.ema_decay > 0 ? 3 : 2);
	const { program } = compiled;
	const devices = program.devices.length;
	const all = [...trace.parameters.values()];
	const parameters = elements(all);
	const trained = elements(all.filter((p) => p.trained));
	console.json({ config, plan: { devices, parameters, cuts, stages, program: formatProgram(program) } });
	const { pipeline_schedule } = config.parallel;
	const { rows, stages: places } = placeSchedule(pipeline_schedule, placeOptionsOf(config));
	console.print(
		stringify(config),
		`${formatCount(parameters)} parameters${trained < parameters ? `, ${formatCount(trained)} of them trained` : ''}`,
		...planLines({ devices, stages }),
		`schedule ${pipeline_schedule} (stage, Forward/Backward, micro-batch):`,
		formatScheduleGrid(rows, places).trimEnd(),
	);
}

function plainChain(config: TrainConfig, model: TrainedModel): { readonly chain: Chain } {
	const { denoiser } = model.build();
	const { chain, sample, output } = denoiser;
	return { chain: trainingChain(chain, { sample, output, globalBatch: config.train.batch_size }) };
}

function elements(parameters: readonly { readonly shape: Shape }[]): number {
	return parameters.reduce((sum, { shape }) => sum + sizeOf(shape), 0);
}
