"""What a net is; one module or package for each.

- unet: Spleeter's U-Net
"""
