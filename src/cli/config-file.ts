/** @file Finds and reads the config of a training run: a TOML file or a preset of the package, with single keys set from the command line. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { parse, TomlError } from 'smol-toml';
import { DiffusionPipeError, nearestName } from '../core/errors.ts';
import { fileError } from '../io/file-error.ts';
import { type CascadeConfig, isCascade, readCascadeConfig } from '../train/cascade/config.ts';
import { readTrainConfig, type TrainConfig } from '../train/config.ts';
import { presetNames, presetPath } from './presets.ts';
import { applySets } from './set-keys.ts';

/**
 * The config `nameOrPath` (a preset's name, or a TOML file relative to `cwd`) with `sets` (`table.key=value`) applied, checked, defaults filled in. A file with a
 * table `[super_resolution]` is one of a cascade: `config` is then its base's.
 * @throws DiffusionPipeError of kind 'config' or 'input': no such preset or file, not TOML (with line and column), or a key or value that is wrong
 */
export async function loadTraining(
	nameOrPath: string,
	sets: readonly string[],
	cwd: string,
): Promise<{ readonly config: TrainConfig; readonly cascade?: CascadeConfig }> {
	const raw = await loadRaw(nameOrPath, sets, cwd);
	if (!isCascade(raw)) return { config: readTrainConfig(raw) };
	const cascade = readCascadeConfig(raw);
	return { config: cascade.base, cascade };
}

async function loadRaw(nameOrPath: string, sets: readonly string[], cwd: string): Promise<Record<string, unknown>> {
	return applySets(await readToml(locate(nameOrPath, cwd)), sets);
}

/** A bare word is a preset, unless there is none and a file has that name. */
function locate(nameOrPath: string, cwd: string): string {
	const path = resolve(cwd, nameOrPath);
	if (/\.toml$/i.test(nameOrPath) || /[\\/]/.test(nameOrPath)) {
		if (existsSync(path)) return path;
		throw new DiffusionPipeError('input', 'there is no such file', {
			place: nameOrPath,
			hint: `check the path, or name a preset: ${presetNames().join(', ')}`,
		});
	}
	const presets = presetNames();
	if (presets.includes(nameOrPath)) return presetPath(nameOrPath);
	if (existsSync(path)) return path;
	const near = nearestName(nameOrPath, presets);
	throw new DiffusionPipeError('config', 'there is no such preset or file', {
		place: nameOrPath,
		expected: `a preset (${presets.join(', ')}) or a .toml file`,
		...(near ? { hint: `did you mean ${near}?` } : {}),
	});
}

async function readToml(path: string): Promise<Record<string, unknown>> {
	let text: string;
	try {
		text = await readFile(path, 'utf8');
	} catch (error) {
		throw fileError(path, 'read', error);
	}
	try {
		return parse(text);
	} catch (cause) {
		if (!(cause instanceof TomlError)) throw cause;
		const [reason = ''] = cause.message.split('\n');
		throw new DiffusionPipeError('config', 'is not valid TOML', {
			place: `${path}:${cause.line}:${cause.column}`,
			found: `${reason.replace('Invalid TOML document: ', '')}\n${cause.codeblock.trimEnd()}`,
			cause,
		});
	}
}
