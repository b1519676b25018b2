/** @file Finds the files of the optional packages that hold data sets. */
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { DiffusionPipeError } from '../../core/errors.ts';

/**
 * The folder of an installed package, looked for from this library and then from the working folder.
 * @param version the version to name when it has to be installed
 * @throws DiffusionPipeError of kind 'input' when it is not installed
 */
export function packageFolder(name: string, version: string): string {
	for (const from of [import.meta.url, pathToFileURL(join(process.cwd(), 'package.json')).href]) {
		try {
			return dirname(createRequire(from).resolve(`${name}/package.json`));
		} catch {
			// Not installed here: look in the next place.
		}
	}
	throw new DiffusionPipeError('input', 'the package with this data set is not installed', {
		place: `package ${name}`,
		hint: `npm install ${name}@${version}`,
	});
}
