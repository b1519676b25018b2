/** @file `diffusionpipe sample`: pictures from a trained model. */
import { relative, resolve } from 'node:path';
import { type Args, type Context, defineCommand, type Outcome } from '../command.ts';
import { createConsole } from '../console.ts';
import { formatSeconds, plural } from '../format.ts';

const options = {
	labels: { kind: 'text', value: '0,1,2', summary: 'Classes to draw, by number or name; all of them, up to 10, unless given' },
	steps: { kind: 'integer', value: 'n', min: 1, summary: 'Steps from noise to picture' },
	guidanceScale: { kind: 'number', value: 'x', min: 0, summary: 'How strongly the label pulls; 1 is no guidance' },
	seed: { kind: 'integer', value: 'n', min: 0, summary: 'Another seed gives other pictures' },
	perLabel: { kind: 'integer', value: 'n', min: 1, summary: 'Pictures of each label' },
	columns: { kind: 'integer', value: 'n', min: 1, summary: 'Pictures in a row' },
	scheduler: { kind: 'text', value: 'class', summary: 'Another sampler, as UniPCMultistepScheduler, with the options it shares' },
	output: { kind: 'text', value: 'file.png', summary: 'Where to write; samples.png in the folder sampled from unless given' },
	devices: { kind: 'integer', value: 'n', min: 1, summary: 'Devices to share the pictures' },
} as const;

export const sample = defineCommand({
	name: 'sample',
	summary: 'Draw pictures with a trained model',
	usage: '<run|checkpoint|pipeline folder>',
	options,
	examples: [
		['sample runs/mnist', 'draws every class with the finished model, or with the newest checkpoint'],
		['sample runs/mnist --labels 3,8 --per-label 8 --guidance-scale 4 --output digits.png', 'draws two classes, eight pictures each'],
	],
	run,
});

async function run({ positional, options: given }: Args<typeof options>, context: Context): Promise<Outcome> {
	const { note, print, json } = createConsole(given, context);
	const { labels, output, steps, guidanceScale, seed, perLabel, columns, scheduler, devices } = given;
	const here = (path: string) => relative(process.cwd(), resolve(context.cwd, path)) || '.';
	const folder = here(positional[0]!);
	note(`opening ${folder}`);
	const { sampleToFile } = await import('../../generate/index.ts');
	context.finishOnInterrupt('stopping after this step');
	const counter = stepCounter(context, given.quiet);
	const chosen = Object.fromEntries(
		Object.entries({ steps, guidanceScale, seed, perLabel, columns, scheduler, devices }).filter(([, value]) => value !== undefined),
	);
	try {
		const result = await sampleToFile({
			folder,
			...(labels === undefined ? {} : { labels: splitLabels(labels) }),
			...(output === undefined ? {} : { output: here(output) }),
			...chosen,
			signal: context.signal,
			onEvent: (event) => (event.kind === 'step' ? counter.show(event.step, event.steps) : note(event.text)),
		});
		counter.end();
		json(result);
		print(`${plural(result.images, 'picture')} in ${formatSeconds(result.seconds)}: ${result.output}`);
		return 'done';
	} catch (error) {
		counter.end();
		if (!context.signal.aborted) throw error;
		note('stopped: no picture was written');
		return 'interrupted';
	}
}

/** `0, 1,lemon` to [0, 1, 'lemon']. */
function splitLabels(text: string): (number | string)[] {
	return text
		.split(',')
		.map((label) => label.trim())
		.filter((label) => label !== '')
		.map((label) => (/^\d+$/.test(label) ? Number(label) : label));
}

/** Counts the steps on one line of a terminal; elsewhere it says nothing, since sampling is short. */
function stepCounter({ stderr, isTTY }: Context, quiet: boolean): { show(step: number, steps: number): void; end(): void } {
	let open = false;
	return {
		show(step, steps) {
			if (quiet || !isTTY) return;
			stderr.write(`\rstep ${step}/${steps}\u001b[K`);
			open = true;
		},
		end() {
			if (open) stderr.write('\n');
			open = false;
		},
	};
}
