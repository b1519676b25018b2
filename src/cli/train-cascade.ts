/** @file `diffusionpipe train` for a config with two models: a cascade. */
import type { CascadeConfig } from '../train/cascade/config.ts';
import { devicesPerPipeline } from '../train/layout.ts';
import type { Context, GlobalValues, Outcome } from './command.ts';
import type { Console } from './console.ts';
import { formatNumber, formatSeconds, plural, shellWord } from './format.ts';
import { createProgress } from './progress.ts';

/** What of the command's options bears on a cascade. */
interface Given extends Pick<GlobalValues, 'quiet'> {
	readonly resume?: string | true | undefined;
	readonly overwrite: boolean;
	readonly allowConfigChange: boolean;
	readonly dryRun: boolean;
}

/** Notes of steps come this far apart. */
const intervalMs = 5_000;

/** Trains a cascade and tells what it does. */
export async function runCascade(config: CascadeConfig, given: Given, context: Context, console: Console): Promise<Outcome> {
	const { base, super_resolution: larger } = config;
	const { train: t, parallel: p, output_dir } = base;
	const devices = plural(devicesPerPipeline(p) * p.data_parallel, 'device');
	console.note(
		`training a cascade, ${base.model.type} and ${larger.model.type}, on ${base.data.type}: ${plural(t.max_steps, 'step')} of ` +
			`${plural(t.batch_size, 'image')}, ${devices}, into ${output_dir}`,
	);
	if (given.dryRun) {
		const { dryRunCascade } = await import('./dry-run-cascade.ts');
		await dryRunCascade(config, console);
		return 'done';
	}
	context.finishOnInterrupt('finishing this step and saving');
	const progress = createProgress({ output: context.stderr, isTTY: false, style: console.noteStyle, now: () => performance.now() });
	const [{ trainCascade }, { cascadeSamples }] = await Promise.all([
		import('../train/cascade/trainer.ts'),
		import('../generate/cascade.ts'),
	]);
	let shown = Number.NEGATIVE_INFINITY;
	const result = await trainCascade(config, {
		resume: given.resume ?? false,
		overwrite: given.overwrite,
		allowConfigChange: given.allowConfigChange,
		signal: context.signal,
		samples: cascadeSamples,
		onEvent(event) {
			console.json(event);
			if (event.kind === 'eval') {
				console.note(
					`held-out loss at step ${event.step}: base ${formatNumber(event.base.loss)}, super_resolution ` +
						`${formatNumber(event.super_resolution.loss)} (${plural(event.base.samples, 'example')})`,
				);
				return;
			}
			if (event.kind !== 'step') {
				if (!given.quiet) progress.onEvent(event);
				return;
			}
			const { step, maxSteps, losses, stepMs } = event;
			if (step < maxSteps && performance.now() - shown < intervalMs) return;
			shown = performance.now();
			const left = step < maxSteps ? `  ${formatSeconds(((maxSteps - step) * stepMs) / 1000)} left` : '';
			console.note(
				`step ${step}/${maxSteps}  base loss ${formatNumber(losses.base)}  super_resolution loss ${formatNumber(losses.super_resolution)}${left}`,
			);
		},
	});
	const { step, losses, seconds, samples, pipeline } = result;
	// No step was left when the losses are none.
	const last = Number.isNaN(losses.base)
		? `all ${plural(step, 'step')} were done before (train.max_steps = ${t.max_steps})`
		: `${plural(step, 'step')}, last losses ${formatNumber(losses.base)} and ${formatNumber(losses.super_resolution)} (${formatSeconds(seconds)})`;
	console.print(
		result.finished
			? `${console.printStyle.green('done')}: ${last}`
			: `${console.printStyle.yellow('stopped')} after step ${step} of ${t.max_steps} (${formatSeconds(seconds)})`,
		...(result.skippedFiles > 0 ? [console.printStyle.yellow(`${plural(result.skippedFiles, 'data file')} could not be used`)] : []),
		...(samples.length > 0 ? [`pictures: ${samples.at(-1)}`] : []),
		...(pipeline === undefined ? [] : [`pipeline: ${pipeline}, and in it super_resolution`]),
		pipeline === undefined ? 'next: the same command with --resume' : `next: diffusionpipe sample ${shellWord(output_dir)}`,
	);
	return result.finished ? 'done' : 'interrupted';
}
