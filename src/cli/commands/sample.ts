/** @file `diffusionpipe sample`: pictures from a trained model. */
import { existsSync } from 'node:fs';
import { relative, resolve } from 'node:path';
import { type Args, type Context, defineCommand, type Outcome } from '../command.ts';
import { createConsole } from '../console.ts';
import { formatBytes, formatSeconds, plural } from '../format.ts';

const options = {
	prompt: { kind: 'list', value: 'text', summary: 'What to draw, for models of texts; may be given several times' },
	negativePrompt: { kind: 'text', value: 'text', summary: 'What guidance leads away from' },
	image: { kind: 'text', value: 'file', summary: 'Picture to change in place of starting from noise' },
	strength: { kind: 'number', value: 'x', min: 0, summary: 'How much of that picture is given up, from 0 to 1' },
	height: { kind: 'integer', value: 'pixels', min: 1, summary: "Height of the pictures; the model's own unless given" },
	width: { kind: 'integer', value: 'pixels', min: 1, summary: "Width of the pictures; the model's own unless given" },
	controlnet: { kind: 'text', value: 'folder', summary: 'ControlNet to steer with: a folder, a run, or a name on the hub' },
	controlImage: { kind: 'text', value: 'file', summary: 'Picture of edges, depth or the like for the ControlNet' },
	controlScale: { kind: 'number', value: 'x', min: 0, summary: 'How strongly the ControlNet steers; 1 unless given' },
	lora: { kind: 'list', value: 'run|folder|file', summary: 'LoRA to add to the model; may be given several times' },
	loraScale: { kind: 'number', value: 'x', min: 0, summary: "How strongly LoRA counts, the run's own too; 1 unless given" },
	labels: { kind: 'text', value: '0,1,2', summary: 'Classes to draw, by number or name; all of them, up to 10, unless given' },
	steps: { kind: 'integer', value: 'n', min: 1, summary: 'Steps from noise to picture; as the run drew unless given' },
	guidanceScale: {
		kind: 'number',
		value: 'x',
		min: 0,
		summary: 'How strongly label or prompt pull (1: no guidance); as the run drew unless given',
	},
	seed: { kind: 'integer', value: 'n', min: 0, summary: 'Another seed gives other pictures' },
	perLabel: { kind: 'integer', value: 'n', min: 1, summary: 'Pictures of each label (4 unless given) or prompt (1)' },
	columns: { kind: 'integer', value: 'n', min: 1, summary: 'Pictures in a row' },
	scheduler: { kind: 'text', value: 'class', summary: 'Another sampler, as UniPCMultistepScheduler, with the options it shares' },
	output: { kind: 'text', value: 'file.png', summary: 'Where to write; samples.png in the folder sampled from unless given' },
	devices: { kind: 'integer', value: 'n', min: 1, summary: 'Devices to share the pictures' },
} as const;

export const sample = defineCommand({
	name: 'sample',
	summary: 'Draw pictures with a trained model',
	usage: '<run|checkpoint|pipeline folder|owner/name>',
	options,
	examples: [
		['sample runs/mnist', 'draws every class with the finished model, or with the newest checkpoint'],
		['sample runs/mnist --labels 3,8 --per-label 8 --guidance-scale 4 --output digits.png', 'draws two classes, eight pictures each'],
		[
			'sample stabilityai/stable-diffusion-xl-base-1.0 --prompt "a lighthouse at dawn" --steps 30',
			'fetches a model of the hub and draws what the text says',
		],
		[
			'sample models/sd15 --prompt "the same in winter" --image lighthouse.png --strength 0.6 --scheduler UniPCMultistepScheduler',
			'changes a picture, with another sampler than the one in the folder',
		],
	],
	run,
});

async function run({ positional, options: given }: Args<typeof options>, context: Context): Promise<Outcome> {
	const { note, print, json } = createConsole(given, context);
	const { prompt, lora, loraScale, labels, image, controlnet, controlImage, output } = given;
	const { negativePrompt, strength, height, width, controlScale, steps, guidanceScale, seed, perLabel, columns, scheduler, devices } =
		given;
	const here = (path: string) => relative(process.cwd(), resolve(context.cwd, path)) || '.';
	const folder = modelOf(positional[0]!, context.cwd, here);
	note(`opening ${folder}`);
	const { sampleToFile } = await import('../../generate/index.ts');
	context.finishOnInterrupt('stopping after this step');
	const counter = stepCounter(context, given.quiet);
	const chosen = Object.fromEntries(
		Object.entries({
			...{ negativePrompt, strength, height, width, controlScale, steps, guidanceScale, seed, perLabel, columns, scheduler, devices },
			prompts: prompt.length > 0 ? prompt : undefined,
			lora: lora.length > 0 ? lora.map(here) : undefined,
			loraScale,
			image: image && here(image),
			controlImage: controlImage && here(controlImage),
			controlNet: controlnet && modelOf(controlnet, context.cwd, here),
		}).filter(([, value]) => value !== undefined),
	);
	try {
		const result = await sampleToFile({
			folder,
			...(labels === undefined ? {} : { labels: splitLabels(labels) }),
			...(output === undefined ? {} : { output: here(output) }),
			...chosen,
			signal: context.signal,
			onEvent(event) {
				if (event.kind === 'step') counter.show(`step ${event.step}/${event.steps}`);
				else if (event.kind === 'fetch') counter.show(`fetched ${formatBytes(event.bytes)} of ${formatBytes(event.total)}`);
				else {
					counter.end();
					note(event.text);
				}
			},
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

/** The path of a model from here, or a name of the hub where not even its first part is a folder. */
function modelOf(given: string, cwd: string, here: (path: string) => string): string {
	const [owner, name, ...rest] = given.split('/');
	const named = owner && name && rest.length === 0 && !/^\.{1,2}$/.test(owner) && !existsSync(resolve(cwd, owner));
	return named ? given : here(given);
}

/** `0, 1,lemon` to [0, 1, 'lemon']. */
function splitLabels(text: string): (number | string)[] {
	return text
		.split(',')
		.map((label) => label.trim())
		.filter((label) => label !== '')
		.map((label) => (/^\d+$/.test(label) ? Number(label) : label));
}

/** Counts steps or bytes on one line of a terminal; elsewhere it says nothing. */
function stepCounter({ stderr, isTTY }: Context, quiet: boolean): { show(text: string): void; end(): void } {
	let open = false;
	return {
		show(text) {
			if (quiet || !isTTY) return;
			stderr.write(`\r${text}\u001b[K`);
			open = true;
		},
		end() {
			if (open) stderr.write('\n');
			open = false;
		},
	};
}
