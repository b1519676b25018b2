/** @file What a training run would do: its whole config, and how its layers lie over the devices. */
import { stringify } from 'smol-toml';
import { trainingChain } from '../diffusion/objective.ts';
import { samplerConfig } from '../diffusion/samplers/index.ts';
import { placeSchedule } from '../plan/schedules/index.ts';
import { formatScheduleGrid } from '../plan/schedules/text.ts';
import { formatProgram } from '../program/text.ts';
import type { TrainConfig } from '../train/config.ts';
import { placeOptionsOf, stageCount } from '../train/layout.ts';
import { openTrainedModel } from '../train/model.ts';
import { planTraining } from '../train/plan.ts';
import type { Console } from './console.ts';
import { formatCount } from './format.ts';
import { planLines } from './progress.ts';

/**
 * Prints the resolved config as TOML, the stages and the schedule; as JSON, one document with the programs of all devices.
 * @throws DiffusionPipeError of kind 'config' when the config could not be trained
 */
export async function dryRun(config: TrainConfig, console: Console): Promise<void> {
	const { type: schedulerClass, ...schedulerOptions } = config.scheduler;
	const model = await openTrainedModel(config);
	await model.close();
	const { denoiser } = model.build();
	samplerConfig(schedulerClass, schedulerOptions);
	const chain = trainingChain(denoiser.chain, {
		sample: denoiser.sample,
		output: denoiser.output,
		globalBatch: config.train.batch_size,
	});
	if (stageCount(config.parallel) > 1) console.note('measuring the layers to plan the stages');
	// AdamW keeps two moments per parameter, and the moving average counts as a third.
	const { trace, compiled, stages, cuts } = await planTraining(config, chain, config.train.ema_decay > 0 ? 3 : 2);
	const { program } = compiled;
	const devices = program.devices.length;
	const parameters = [...trace.parameters.values()].reduce((sum, p) => sum + p.shape.reduce((a, b) => a * b, 1), 0);
	console.json({ config, plan: { devices, parameters, cuts, stages, program: formatProgram(program) } });
	const { pipeline_schedule } = config.parallel;
	const { rows, stages: places } = placeSchedule(pipeline_schedule, placeOptionsOf(config));
	console.print(
		stringify(config),
		`${formatCount(parameters)} parameters`,
		...planLines({ devices, stages }),
		`schedule ${pipeline_schedule} (stage, Forward/Backward, micro-batch):`,
		formatScheduleGrid(rows, places).trimEnd(),
	);
}
