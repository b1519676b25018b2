/** @file Which files of a model repository are needed: configs, tokenizers, and one set of safetensors weights per part. */
import { posix } from 'node:path';
import { DiffusionPipeError } from '../core/errors.ts';
import { weightFileNames } from './safetensors-sharded.ts';

/** How files are chosen. */
export interface FileChoice {
	/** As `fp16`: takes the weights with this part in their names, where a part has them. */
	readonly variant?: string;
	/** Takes exactly the files that match one of these (`*` is any text, `?` any character), in place of the choice by the layout of the folder. */
	readonly allowPatterns?: readonly string[];
	/** Leaves out files that match one of these. */
	readonly ignorePatterns?: readonly string[];
}

/** Parts of published pipelines that no pipeline here reads; the first is 1.2 GB. */
const unread = new Set(['safety_checker', 'feature_extractor']);
const bases = ['diffusion_pytorch_model', 'model'] as const;
const settings = /\.(json|txt|model)$/;
const index = /\.safetensors\.index(\..+)?\.json$/;
const pickled = /\.(bin|ckpt|pt|pth|msgpack|h5)$/;

/**
 * The paths wanted out of `paths`: of a pipeline (with `model_index.json`) the folders of its parts, of any other repository its top folder; in each
 * the configs and tokenizer files, and the weights that reading the folder would take. Order is kept.
 * @throws DiffusionPipeError of kind 'input' when nothing is left, or a part has weights but none that can be read
 */
export function chooseFiles(paths: readonly string[], choice: FileChoice, place: string): string[] {
	const { allowPatterns, ignorePatterns = [] } = choice;
	const ignored = ignorePatterns.map(patternOf);
	const open = paths.filter((path) => !ignored.some((p) => p.test(path)));
	const allowed = allowPatterns?.map(patternOf);
	const chosen = allowed ? open.filter((path) => allowed.some((p) => p.test(path))) : byLayout(open, choice.variant, place);
	if (chosen.length > 0) return chosen;
	throw new DiffusionPipeError('input', 'has no files that are wanted', {
		place,
		expected: allowPatterns ? `files like ${allowPatterns.join(', ')}` : 'a pipeline with model_index.json, or a model with config.json',
		found: paths.length === 0 ? 'no files' : `${paths.slice(0, 8).join(', ')}${paths.length > 8 ? ` and ${paths.length - 8} more` : ''}`,
	});
}

function byLayout(paths: readonly string[], variant: string | undefined, place: string): string[] {
	const isPipeline = paths.includes('model_index.json');
	const folders = new Map<string, string[]>();
	for (const path of paths) {
		const folder = posix.dirname(path);
		const names = folders.get(folder) ?? [];
		folders.set(folder, names);
		names.push(posix.basename(path));
	}
	const wanted = new Set<string>();
	for (const [folder, names] of folders) {
		// Weights beside model_index.json are whole checkpoints of another format.
		const isPart = isPipeline ? folder !== '.' && !folder.includes('/') && !unread.has(folder) : folder === '.';
		if (!isPart && folder !== '.') continue;
		for (const name of names) if (settings.test(name) && !index.test(name)) wanted.add(posix.join(folder, name));
		if (isPart) for (const name of weightsOf(folder, names, variant, place)) wanted.add(posix.join(folder, name));
	}
	return paths.filter((path) => wanted.has(path));
}

/** Names of the weights of one folder: of the variant where there are some, one file before shards. Empty when the folder has no weights at all. */
function weightsOf(folder: string, names: readonly string[], variant: string | undefined, place: string): string[] {
	for (const v of variant === undefined ? [undefined] : [variant, undefined]) {
		for (const base of bases) {
			const { single, index: shardIndex } = weightFileNames(base, v);
			if (names.includes(single)) return [single];
			const stem = single.slice(0, -'.safetensors'.length);
			// Older saves put the variant before the file type in the name of the index, too.
			const found = [shardIndex, `${stem}.safetensors.index.json`].find((name) => names.includes(name));
			if (found !== undefined) return [found, ...names.filter((name) => isShard(name, stem))];
		}
	}
	const safetensors = names.filter((name) => bases.some((b) => name.startsWith(`${b}.`)) && name.endsWith('.safetensors'));
	const pickles = names.filter((name) => pickled.test(name));
	if (safetensors.length === 0 && (pickles.length === 0 || !names.includes('config.json'))) return [];
	throw new DiffusionPipeError('input', 'has no weights that can be read', {
		place: folder === '.' ? place : `${place}, ${folder}`,
		expected: bases.map((base) => weightFileNames(base, variant).single).join(' or '),
		found: [...safetensors, ...pickles].slice(0, 6).join(', '),
		hint: safetensors.length > 0 ? 'ask for one of these variants' : 'choose a revision or a copy of the model with safetensors weights',
	});
}

const isShard = (name: string, stem: string) => name.startsWith(stem) && /^-\d{5}-of-\d{5}\.safetensors$/.test(name.slice(stem.length));

function patternOf(pattern: string): RegExp {
	const source = pattern
		.replace(/[\\^$+.()|[\]{}]/g, '\\$&')
		.replaceAll('*', '.*')
		.replaceAll('?', '.');
	return new RegExp(`^${source}$`, 's');
}
