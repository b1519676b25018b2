/** @file `diffusionpipe plan`: how to lay a training job over devices, and what that is predicted to cost. */
import { type Args, type Context, defineCommand, type Outcome } from '../command.ts';
import { createConsole } from '../console.ts';
import { plural } from '../format.ts';
import { jobOptions, outputOptions, shapeOptions } from '../plan/job-options.ts';
import { presetNames } from '../presets.ts';

const options = {
	...jobOptions,
	...shapeOptions,
	for: { kind: 'text', value: 'trainer', summary: 'Print what another trainer takes of the plan: torch, diffusion-pipe or deepspeed' },
	...outputOptions,
} as const;

export const plan = defineCommand({
	name: 'plan',
	summary: 'Choose stages, micro-batches and schedule of a training job',
	usage: '[preset|config.toml|model folder|job]',
	options,
	details: () => [
		`  presets: ${presetNames().join(', ')}`,
		'  jobs: sd21, sdxl, controlnet, cdm-lsun, cdm-imagenet, dit-xl, sd3, flux',
		'  accelerators: A100-40, A100-80, H100, H200, L40, RTX 4090, V100',
	],
	examples: [
		['plan sd21 --accelerator A100-80 --hosts 2 --batch 256', 'plans Stable Diffusion 2.1 for two hosts of eight accelerators'],
		['plan emoji --devices 4', 'measures the layers of a preset on this machine, and plans it for four devices'],
		[
			'plan --profile p.json --cluster c.json --batch 256 --out plans/a',
			'plans a job of your own; the folder gets plan, pictures and trace',
		],
		[
			'plan sdxl --accelerator H100 --batch 128 --stages 4 --no-recompute --out sdxl.html',
			'fixes some choices, and writes a page to look at',
		],
		['plan models/sdxl --accelerator H100 --batch 64 --for diffusion-pipe', "prints the stages for another trainer's config"],
	],
	run,
});

async function run({ positional, options: given }: Args<typeof options>, context: Context): Promise<Outcome> {
	const console = createConsole(given, context);
	const [{ givenJob }, { givenShape }, { outputTo }, { searchPlan }, { planFormat }] = await Promise.all([
		import('../plan/job.ts'),
		import('../plan/shape.ts'),
		import('../plan/outputs.ts'),
		import('../../plan/search/index.ts'),
		import('../../plan/trainers/index.ts'),
	]);
	const fixed = givenShape(given);
	const format = given.for === undefined ? undefined : planFormat(given.for, '--for');
	const write = given.out === undefined ? undefined : outputTo(given.out, context.cwd);
	const job = await givenJob(positional[0], given, { cwd: context.cwd, note: console.note });
	const { profile, cluster, batch } = job;
	console.note(`planning ${profile.name}: batch ${batch} on ${plural(cluster.hosts * cluster.devicesPerHost, 'device')}`);
	const result = searchPlan(profile, cluster, batch, { ...fixed, ...(format ? { baselines: false } : {}) });
	const written = (await write?.(result, job)) ?? [];
	if (format) {
		const text = format.write(result.plan, profile);
		console.json({ for: given.for, text });
		console.print(text.trimEnd());
	} else {
		const [{ planDocument }, { searchLines }] = await Promise.all([import('../../plan/plan-json.ts'), import('../plan/show.ts')]);
		console.json(planDocument(result.plan));
		const screen = { output: context.stdout, env: context.env, style: console.printStyle };
		if (!given.json) console.print(...searchLines(result, profile.frozen, screen));
	}
	for (const path of written) console.note(`wrote ${path}`);
	return 'done';
}
