/** @file Describes pipeline folders, and checkpoints, which are pipeline folders with the state of training. */
import { existsSync } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { stringify } from 'smol-toml';
import { readJsonObject } from '../../io/json-file.ts';
import { readPipelineIndex } from '../../io/model-folder.ts';
import { readTrainingState } from '../../train/checkpoint.ts';
import { formatBytes, formatTable } from '../format.ts';
import type { Description } from './index.ts';
import { describeModelFolder } from './model.ts';

/** Describes the pipeline folder `path`: its parts, the models among them, the scheduler, and the step if it is a checkpoint. */
export async function describePipeline(path: string): Promise<Description> {
	const index = await readPipelineIndex(path);
	const state = existsSync(join(path, 'training', 'state.json')) ? await readTrainingState(path) : undefined;
	const parts: Record<string, unknown> = {};
	const lines = [
		state ? `${path}: checkpoint of step ${state.step} (${index.className})` : `${path}: ${index.className}`,
		...(state ? [`  stages begin at layers 0${state.cuts.map((cut) => `, ${cut}`).join('')}`] : []),
	];
	for (const [name, part] of Object.entries(index.parts)) {
		if (part === null) {
			lines.push(`${name}: none`);
			continue;
		}
		const folder = join(path, name);
		if (existsSync(join(folder, 'config.json'))) {
			const model = await describeModelFolder(folder);
			parts[name] = model.document;
			lines.push('', ...model.lines);
			if (existsSync(join(path, `${name}_ema`))) lines.push(`${join(path, `${name}_ema`)}: the moving average of these weights`);
		} else if (existsSync(join(folder, 'scheduler_config.json'))) {
			const config = await readJsonObject(join(folder, 'scheduler_config.json'));
			parts[name] = { kind: 'scheduler', class: part[1], config };
			lines.push('', `${folder}: ${part[1]}`);
		} else {
			parts[name] = { kind: 'other', library: part[0], class: part[1] };
			lines.push('', `${folder}: ${part[1]} of ${part[0]}`);
		}
	}
	const larger = join(path, 'super_resolution');
	if (existsSync(join(larger, 'model_index.json'))) {
		const described = await describePipeline(larger);
		parts.super_resolution = described.document;
		lines.push('', ...described.lines);
	}
	const files = state ? await listFiles(path) : [];
	if (state) {
		lines.push('', 'config of the run', ...indented(stringify(state.config)), '', 'files');
		lines.push(
			...formatTable(
				files.map((f) => [`  ${f.name}`, formatBytes(f.bytes)]),
				[1],
			),
		);
	}
	return {
		document: {
			kind: state ? 'checkpoint' : 'pipeline',
			path,
			class: index.className,
			...(state ? { step: state.step, cuts: state.cuts, config: state.config, files } : {}),
			options: index.options,
			parts,
		},
		lines,
	};
}

function indented(text: string): string[] {
	return text
		.trimEnd()
		.split('\n')
		.map((line) => (line === '' ? '' : `  ${line}`));
}

/** Every file below `path`, by its name from there. */
async function listFiles(path: string): Promise<{ name: string; bytes: number }[]> {
	const entries = await readdir(path, { recursive: true, withFileTypes: true });
	const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
	return Promise.all(files.sort().map(async (file) => ({ name: relative(path, file), bytes: (await stat(file)).size })));
}
