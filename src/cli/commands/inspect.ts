/** @file `diffusionpipe inspect`: what is in a model, a checkpoint, a run or a graph file. */
import { relative, resolve } from 'node:path';
import { DiffusionPipeError } from '../../core/errors.ts';
import { type Args, type Context, defineCommand, type Outcome } from '../command.ts';
import { createConsole } from '../console.ts';

const options = {
	text: { kind: 'flag', summary: 'Of an ONNX file: print the whole graph, a line per node' },
	dim: { kind: 'list', value: 'name=size', summary: 'Of an ONNX file: size of a symbolic dimension; may be repeated' },
} as const;

export const inspect = defineCommand({
	name: 'inspect',
	summary: 'Show what is in a model, checkpoint, run or graph file',
	usage: '<folder|.safetensors|.onnx|config.json>',
	options,
	examples: [
		['inspect runs/mnist', 'shows the steps saved, and parameters, multiply-accumulates and bytes of the model by layer'],
		['inspect model.onnx --dim batch=1 --text', 'prints the graph of an ONNX file with one size for its symbolic dimension'],
		['inspect diffusion_pytorch_model.safetensors --json', 'lists names, types and shapes of the tensors for another program'],
	],
	run,
});

async function run({ positional, options: given }: Args<typeof options>, context: Context): Promise<Outcome> {
	const console = createConsole(given, context);
	const path = relative(process.cwd(), resolve(context.cwd, positional[0]!)) || '.';
	const { inspectPath } = await import('../inspect/index.ts');
	const { document, lines } = await inspectPath(path, { text: given.text, dims: readDims(given.dim) });
	console.json(document);
	console.print(...lines);
	return 'done';
}

/** `['batch=2']` to { batch: 2 }. */
function readDims(dims: readonly string[]): Record<string, number> {
	return Object.fromEntries(
		dims.map((text) => {
			const at = text.lastIndexOf('=');
			const size = Number(text.slice(at + 1));
			if (at < 1 || !Number.isSafeInteger(size) || size < 1) {
				throw new DiffusionPipeError('usage', 'is not a name and a size', { place: `--dim ${text}`, expected: '--dim batch=1' });
			}
			return [text.slice(0, at), size];
		}),
	);
}
