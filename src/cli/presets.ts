/** @file The training configs that come with the package. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from './package-root.ts';

const folder = join(packageRoot, 'presets');

/** Names of the presets, sorted. */
export function presetNames(): string[] {
	const names = existsSync(folder) ? readdirSync(folder) : [];
	return names.flatMap((name) => (name.endsWith('.toml') ? [name.slice(0, -'.toml'.length)] : [])).sort();
}

/** The file of a preset. */
export function presetPath(name: string): string {
	return join(folder, `${name}.toml`);
}
