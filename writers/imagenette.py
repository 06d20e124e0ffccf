"""Write Imagenette as betons; `fastdc.recipes.imagenette` is the recipe, `--help` shows its options."""

from fastdc.recipes.imagenette import main

if __name__ == "__main__":
    main()
