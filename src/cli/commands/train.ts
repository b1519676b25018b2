/** @file `diffusionpipe train`: a training run from a preset or a config file. */
import { join, relative, resolve } from 'node:path';
import type { TrainConfig } from '../../train/config.ts';
import type { TrainResult } from '../../train/events.ts';
import { type Args, type Context, defineCommand, type Outcome } from '../command.ts';
import { type Console, createConsole } from '../console.ts';
import { formatNumber, formatSeconds, plural, shellWord } from '../format.ts';
import { presetNames } from '../presets.ts';
import { createProgress } from '../progress.ts';

const options = {
	resume: { kind: 'optional', value: 'checkpoint', summary: 'Go on from a checkpoint; from the newest of the run when none is named' },
	allowConfigChange: { kind: 'flag', summary: 'Resume although the config differs from that of the checkpoint' },
	overwrite: { kind: 'flag', summary: 'Remove the run that is in the output folder already' },
	set: { kind: 'list', value: 'key=value', summary: 'Change one key of the config, as train.max_steps=500; may be repeated' },
	outputDir: { kind: 'text', value: 'folder', summary: 'Folder of the run; the same as --set output_dir=...' },
	replanAfter: {
		kind: 'integer',
		value: 'n',
		min: 0,
		summary: 'Plan again after n steps, from what they measured; the same as --set parallel.replan_after=n',
	},
	dryRun: { kind: 'flag', summary: 'Print the whole config and the plan, and train nothing' },
} as const;

export const train = defineCommand({
	name: 'train',
	summary: 'Train a model as a preset or a TOML file says',
	usage: '<preset|config.toml>',
	options,
	details: () => [`  presets: ${presetNames().join(', ')}`],
	examples: [
		['train mnist', 'learns to draw digits on two devices of this machine; pictures appear in runs/mnist/samples'],
		['train mnist --resume --set train.max_steps=4000', 'goes on from the newest checkpoint, for longer'],
		['train my.toml --set optimizer.lr=3e-4 --output-dir runs/low-lr', 'trains from a file of your own with one key changed'],
		['train cascade.toml', 'trains two models at once, when the file has a table [super_resolution.model] beside [model]'],
		['train mnist --dry-run', 'shows every key of the config and how the layers are laid over devices'],
	],
	run,
});

async function run({ positional, options: given }: Args<typeof options>, context: Context): Promise<Outcome> {
	const console = createConsole(given, context);
	const name = positional[0]!;
	const { loadTraining } = await import('../config-file.ts');
	const sets = given.replanAfter === undefined ? given.set : [...given.set, `parallel.replan_after=${given.replanAfter}`];
	const loaded = await loadTraining(name, sets, context.cwd);
	const config = inFolder(loaded.config, given.outputDir, context.cwd);
	if (loaded.cascade) {
		const { runCascade } = await import('../train-cascade.ts');
		const resume = typeof given.resume === 'string' ? fromHere(given.resume, context.cwd) : given.resume;
		return runCascade({ ...loaded.cascade, base: config }, { ...given, resume }, context, console);
	}
	// Only now: help must not load what training needs.
	const { devicesPerPipeline } = await import('../../train/layout.ts');
	console.note(headline(config, devicesPerPipeline(config.parallel)));
	if (given.dryRun) {
		const { dryRun } = await import('../dry-run.ts');
		await dryRun(config, console);
		return 'done';
	}
	context.finishOnInterrupt('finishing this step and saving');
	const progress = createProgress({ output: context.stderr, isTTY: context.isTTY, style: console.noteStyle, now: () => performance.now() });
	const [{ trainModel }, { trainingSamples }] = await Promise.all([import('../../train/trainer.ts'), import('../../generate/index.ts')]);
	let result: TrainResult;
	try {
		result = await trainModel(config, {
			...(given.resume === undefined ? {} : { resume: given.resume === true ? true : fromHere(given.resume, context.cwd) }),
			allowConfigChange: given.allowConfigChange,
			overwrite: given.overwrite,
			signal: context.signal,
			samples: trainingSamples,
			onEvent: (event) => {
				if (!given.quiet) progress.onEvent(event);
				console.json(event);
			},
		});
	} finally {
		progress.end();
	}
	console.print(...closingLines(result, config, name, given, console));
	return result.finished ? 'done' : 'interrupted';
}

/** The config with its folder taken from `--output-dir` if given, as a path from where the process runs. */
function inFolder(config: TrainConfig, outputDir: string | undefined, cwd: string): TrainConfig {
	return { ...config, output_dir: fromHere(outputDir ?? config.output_dir, cwd) };
}

/** A path given relative to `cwd`, relative to the process's own working folder (the same, but in tests). */
function fromHere(path: string, cwd: string): string {
	return resolve(cwd) === process.cwd() ? path : relative(process.cwd(), resolve(cwd, path));
}

function headline({ model, data, train: t, parallel: p, output_dir }: TrainConfig, perPipeline: number): string {
	const devices = plural(perPipeline * p.data_parallel, 'device');
	return `training ${model.type} on ${data.type}: ${plural(t.max_steps, 'step')} of ${plural(t.batch_size, 'image')}, ${devices}, into ${output_dir}`;
}

/** How it ended, the pictures, and what to do next. */
function closingLines(
	result: TrainResult,
	config: TrainConfig,
	name: string,
	given: Args<typeof options>['options'],
	{ printStyle: s }: Console,
): string[] {
	const again = ['diffusionpipe train', shellWord(name), ...given.set.map((set) => `--set ${shellWord(set)}`)];
	if (given.replanAfter !== undefined) again.push(`--replan-after ${given.replanAfter}`);
	if (given.outputDir !== undefined) again.push(`--output-dir ${shellWord(given.outputDir)}`);
	const pictures =
		result.samples.length > 0
			? [`pictures: ${result.samples.at(-1)}${result.samples.length > 1 ? ` and ${result.samples.length - 1} earlier` : ''}`]
			: [];
	const skipped = result.skippedFiles > 0 ? [s.yellow(`${plural(result.skippedFiles, 'data file')} could not be used`)] : [];
	const speed = `${formatSeconds(result.seconds)}, ${Math.round(result.imagesPerSecond)} images/s`;
	if (!result.finished) {
		return [
			`${s.yellow('stopped')} after step ${result.step} of ${config.train.max_steps} (${speed})`,
			...skipped,
			...(result.checkpoint ? [`saved: ${result.checkpoint}`] : []),
			...pictures,
			`next: ${[...again, '--resume'].join(' ')}`,
		];
	}
	const conditioned = config.model.type === 'ControlNetModel' && result.samples.length > 0;
	const picture = join(config.output_dir, 'samples', 'conditioning-0.png');
	const controlled = conditioned ? ` --prompt "..." --control-image ${shellWord(picture)}` : '';
	const longer = again.filter((word) => !word.startsWith('--set train.max_steps='));
	return [
		// No step was left when the loss is none.
		Number.isNaN(result.loss)
			? `${s.green('done')}: all ${plural(result.step, 'step')} were done before (train.max_steps = ${config.train.max_steps})`
			: `${s.green('done')}: ${plural(result.step, 'step')}, last loss ${formatNumber(result.loss)} (${speed})`,
		...skipped,
		...pictures,
		...(result.pipeline ? [`pipeline: ${result.pipeline}`] : []),
		`next: diffusionpipe sample ${shellWord(config.output_dir)}${controlled}`,
		`  or: ${[...longer, '--resume', `--set train.max_steps=${2 * config.train.max_steps}`].join(' ')}`,
	];
}
